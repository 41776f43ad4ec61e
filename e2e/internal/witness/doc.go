// Package witness has what tests under faults know afterwards: what holders of
// locks wrote down by the machine's monotonic clock, in files that survive them,
// judges of that, and a store that the locks protect. It is for tests alone.
package witness
