// Package faults puts lock servers and their clients under real faults, as
// processes: holders killed with SIGKILL, stopped and continued, cut off or
// left with half-open connections, servers killed under load and started again.
// It has no code to import and is never released.
//
// What happened is judged afterwards, from what the holders wrote down by the
// machine's monotonic clock: by the intervals of their belief, by the order of
// the fences, by porcupine, by a guarded store, and by what is left at the
// server. That the judges bite is tested first: each of a list of bugs is
// planted in a copy of the source, and a campaign must fail for it.
//
// See docs/faults.md for the campaigns, how to run them, and what was measured.
package faults
