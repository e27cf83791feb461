package hostcaps

import "golang.org/x/sys/unix"

// HasNetAdmin reports whether this process may set up interfaces (CAP_NET_ADMIN is effective, capabilities(7)).
func HasNetAdmin() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_NET_ADMIN) != 0
}
