// Package proxy is a TCP proxy that breaks the connections it carries: after an
// exact number of bytes, with FIN or RST, seen by both ends or by one. It can
// also hold bytes up, let connections go dead without a word, and turn new ones
// away, and it counts what it carries.
package proxy
