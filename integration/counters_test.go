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

// counters is what vring has counted for one of its queue pairs.
type counters struct {
	byName map[string]uint64 // by the names of its status; those that are zero are not in it. Only of looks here
}

// of returns a counter. It fails the test if vring has none of that name, for that one would be zero for ever.
func (c counters) of(t require.TestingT, name string) uint64 {
	require.True(t, isCounter(name), "vring has no counter %q", name)
	return c.byName[name]
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

// failure is a test that goes on though it has failed.
type failure struct{ failed bool }

func (f *failure) Errorf(string, ...any) {}
func (f *failure) FailNow()              { f.failed = true }

func TestCountersThatDoNotExistAreNoticed(t *testing.T) {
	c := counters{map[string]uint64{"frames_in": 7}}
	for name, want := range map[string]uint64{
		"frames_in": 7, "tcp_out_of_order": 0, "udp_sends": 0, "ended_by_guest": 0, "bad_headers": 0, "undeliverable": 0,
	} {
		require.Equal(t, want, c.of(t, name), name)
	}
	for _, name := range []string{"frame_in", "bad_header ", "ended_by_guests", "received_", "ends", ""} {
		var asking failure
		c.of(&asking, name)
		require.True(t, asking.failed, name)
	}
}
