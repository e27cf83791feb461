package hostcaps

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// CheckPing reports whether the host lets this process send echo requests, through a ping socket (icmp(7)). What permits those
// of IPv4 permits those of IPv6 too. The error says what to do.
func CheckPing() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err == nil {
		return unix.Close(fd)
	}
	if errors.Is(err, unix.EACCES) {
		return errors.New("the host forbids ping sockets to this process's groups; to permit them, set the sysctl " +
			"net.ipv4.ping_group_range to a range with one of them, as in: sysctl net.ipv4.ping_group_range=\"0 2147483647\"")
	}
	return fmt.Errorf("ping socket: %w", err)
}

// MayPing reports whether processes of a group may have ping sockets.
func MayPing(group int) bool {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ping_group_range")
	if err != nil {
		return false
	}
	var first, last int
	n, err := fmt.Sscan(string(text), &first, &last)
	return err == nil && n == 2 && first <= group && group <= last
}
