// Package once puts Once and Group to the test across real processes: runners
// killed with SIGKILL at each point of the code and of the wire, servers killed
// and started again, holders stopped past their TTL, a thousand sessions that wait
// for one result. It has no code to import and is never released.
//
// What happened is judged afterwards from what all wrote down by the machine's
// monotonic clock, and from what went over the wire. That the judges bite is
// tested too: TestMutants plants bugs in a copy of the source, and a campaign must
// fail for each.
//
//	go test ./e2e/once -full -v -timeout 20m
//
// runs everything at full size and prints what docs/measurements.md says; without
// -full the same runs in seconds. What is random follows from a seed, which a failure
// names; what the machine does is not.
package once
