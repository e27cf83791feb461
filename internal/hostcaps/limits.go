package hostcaps

import (
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// OpenFiles returns how many descriptors this process may have. The Go runtime has raised its limit as far as it may.
func OpenFiles() int {
	var limit unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) // cannot fail with these arguments (getrlimit(2))
	return int(min(limit.Cur, math.MaxInt32))
}

// Limits of TCP's window: the field has 16 bits, which a shift of at most 14 scales (RFC 7323 section 2.3).
const (
	maxWindow      = 65535
	maxWindowScale = 14
)

// HostWindowScale returns the least shift with which a window can be as large as the largest send buffer of the host's
// sockets (net.ipv4.tcp_wmem). A greater one would only make windows coarser.
func HostWindowScale() uint8 {
	const largestByDefault = 4 << 20
	least, usual, most := 0, 0, largestByDefault
	if text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_wmem"); err == nil {
		_, _ = fmt.Sscan(string(text), &least, &usual, &most)
	}
	scale := uint8(0)
	for maxWindow<<scale < most && scale < maxWindowScale {
		scale++
	}
	return scale
}
