package hostcaps

import (
	"fmt"
	"os"
)

// TCPMemory returns how much memory the host's TCP sockets may have together before the kernel becomes sparing, in bytes
// (net.ipv4.tcp_mem). ok is false where this process cannot read that: only the first network namespace has it.
func TCPMemory() (bytes int64, ok bool) {
	least, pressure := int64(0), int64(0)
	text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_mem")
	if err != nil {
		return 0, false
	}
	if _, err := fmt.Sscan(string(text), &least, &pressure); err != nil {
		return 0, false
	}
	return pressure * int64(os.Getpagesize()), true
}
