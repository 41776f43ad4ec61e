// Package planting tests judges: it plants bugs in a copy of the source that only
// the compiler sees, and runs the campaigns that must catch them. It is for
// tests alone.
package planting
