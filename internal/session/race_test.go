//go:build race

package session

// underRace says that everything takes ten times as long: tests then do less of
// the same.
const underRace = true
