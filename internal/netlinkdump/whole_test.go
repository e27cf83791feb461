package netlinkdump_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/vringnet/vring/internal/netlinkdump"
)

func TestAListIsAskedForUntilItIsWhole(t *testing.T) {
	otherwise := errors.New("no buffer space available")
	for name, c := range map[string]struct {
		interrupted int   // how many of the first answers are
		then        error // the answer after these
		calls       int
		err         error
	}{
		"whole at once":      {0, nil, 1, nil},
		"interrupted twice":  {2, nil, 3, nil},
		"never whole":        {netlinkdump.Tries, nil, netlinkdump.Tries, netlink.ErrDumpInterrupted},
		"another error":      {0, otherwise, 1, otherwise},
		"another error then": {3, otherwise, 4, otherwise},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			got, err := netlinkdump.Whole(func() (int, error) {
				if calls++; calls <= c.interrupted {
					return calls, netlink.ErrDumpInterrupted
				}
				return calls, c.then
			})
			require.ErrorIs(t, err, c.err)
			require.Equal(t, c.calls, calls)
			require.Equal(t, calls, got, "the last answer is returned")
		})
	}
}
