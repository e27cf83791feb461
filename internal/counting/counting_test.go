package counting_test

import (
	"iter"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/counting"
)

type pets struct{ cats, dogs uint64 }

func (p pets) All() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		_ = yield("black_cats", p.cats) && yield("old_dogs", p.dogs)
	}
}

func TestCountersAreNamedByTheirFieldsAndGroupsNameTheirs(t *testing.T) {
	all := counting.All(struct {
		FramesIn uint64
		Pets     pets
		TCPFlows uint64
	}{7, pets{1, 2}, 0})
	require.Equal(t, map[string]uint64{"frames_in": 7, "black_cats": 1, "old_dogs": 2, "tcp_flows": 0}, maps.Collect(all))
	var order []string
	for name := range all {
		if order = append(order, name); len(order) == 3 {
			break
		}
	}
	require.Equal(t, []string{"frames_in", "black_cats", "old_dogs"}, order)
}

func TestCountersReadInSnakeCase(t *testing.T) {
	for field, want := range map[string]string{
		"Frames": "frames", "TCPFlows": "tcp_flows", "UDPRefused": "udp_refused", "TCPOutOfOrder": "tcp_out_of_order",
		"NoRoom": "no_room", "WindowReads": "window_reads",
	} {
		require.Equal(t, want, counting.Name(field))
	}
}
