// Package measure has what is compared take turns.
//
// What disturbs a machine comes and goes within seconds, and a comparison of two
// long runs compares two weathers. So each contestant has a short block, then
// the next has one, in a new random order each round; what is reported are
// medians and quartiles over the blocks, and ratios of blocks of one round. A
// second copy of the yardstick among the contestants says what difference means
// nothing.
package measure
