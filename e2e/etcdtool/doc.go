// Package etcdtool tests the tool dlock, as a process, on an etcd that the tests
// start. It is here and not with the tool, so that the tool's module does not need
// etcd's server. It has no code to import and is never released.
package etcdtool
