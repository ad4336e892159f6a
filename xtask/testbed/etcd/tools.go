//go:build tools

package testbed

import _ "go.etcd.io/etcd/server/v3"
