package etcd

import "crypto/tls"

// systemTLS trusts the system's roots.
func systemTLS() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12} }
