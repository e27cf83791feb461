package netlinkdump

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// Tries is how often a list is asked for at most.
const Tries = 100

// Whole calls list until its answer was not interrupted by a change on the host, and returns that answer. After Tries calls it returns the
// last one with netlink.ErrDumpInterrupted; another error ends it at once. Any goroutine may call it.
func Whole[T any](list func() (T, error)) (T, error) {
	for try := 1; ; try++ {
		all, err := list()
		if try == Tries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
}
