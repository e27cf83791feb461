package integration

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/userland"
)

// Guests whose front ends share no memory: QEMU with a stream, for a card of virtio and for another one, and User-mode Linux with packets.
func TestFrontEndsWithoutSharedMemory(t *testing.T) {
	atOnceOnAll(t, func(t *testing.T, kind kind) {
		l := newLab(t, kind)
		l.requireNetwork()
		var echoes proto.Echoes
		l.do(&echoes, "ping", "10.0.2.2", 3, 56)
		require.Equal(t, proto.Echoes{Sent: 3, Answered: 3}, echoes)
		if kind.userland == userland.Forky && !kind.uml { // others do not connect again
			l.vring.crash()
			l.vring.waitOutput("front end connected")
			l.requireNetwork()
		}
		require.NoError(t, l.guest.Kill())
		l.vring.waitOutput("front end disconnected")
		if kind.userland == userland.Forky {
			return
		}
		l.startGuest()
		l.requireNetwork()
	},
		kind{userland: userland.Bookworm, frontEnd: "stream"},
		kind{userland: userland.Forky, frontEnd: "stream", card: "vmxnet3"},
		kind{userland: userland.Bookworm, uml: true, frontEnd: "bess"},
	)
}
