// Package campaign has what every campaign says in the same way, whatever it puts
// under faults: how it is repeated, what it found that must not be, and its tables.
// It is for tests alone: it adds the flag -seed to the program that imports it.
//
// It is no part of package witness, which knows afterwards what holders of locks
// believed: packages once and planting have violations and no holders, and the
// judges of witness are but some of those that find them. How a violation is
// printed stands here beside what reads it back out of a campaign with a planted
// bug, and how much a campaign does in package size, which measurements need too.
package campaign
