package integration

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/tap"
)

// counters is what vring has counted for one of its queue pairs, by the names of its status. Those that are zero are not in it.
type counters map[string]uint64

// of returns a counter. It fails the test if vring has none of that name, for that one would be zero for ever.
func (c counters) of(t *testing.T, name string) uint64 {
	t.Helper()
	require.True(t, isCounter(name), "vring has no counter %q", name)
	return c[name]
}

// isCounter reports whether vring counts something by that name, in any of its modes.
func isCounter(name string) bool {
	for _, all := range []any{nat.Counters{}, tap.Counters{}, stub.Counters{}, netbackend.ReturnedBuffers{}} {
		for known := range counting.All(all) {
			if known == name {
				return true
			}
		}
	}
	return false
}

func TestCountersThatDoNotExistAreNoticed(t *testing.T) {
	for _, name := range []string{"frames_in", "tcp_out_of_order", "udp_sends", "ended_by_guest", "bad_headers", "undeliverable"} {
		require.True(t, isCounter(name), name)
	}
	for _, name := range []string{"frame_in", "bad_header ", "ended_by_guests", "received_", "ends", ""} {
		require.False(t, isCounter(name), name)
	}
}
