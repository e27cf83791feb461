package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/guest/proto"
	"github.com/vringnet/vring/integration/qemu"
)

func TestAGuestGetsItsLease(t *testing.T) {
	onEach(t, func(t *testing.T, kind kind) {
		l := newLab(t, kind, "--mtu", "1400", "--hostname", "vm0", "--domain", "lab.example")
		lease := l.lease()
		require.Equal(t, "10.0.2.15/24", lease.Address)
		require.Equal(t, "10.0.2.2", lease.Router)
		require.Equal(t, []string{"10.0.2.3"}, lease.DNS)
		require.Equal(t, 1400, lease.MTU)
		require.Equal(t, "vm0", lease.HostName)
		require.Equal(t, "lab.example", lease.Domain)
		require.Positive(t, lease.LeaseTime)

		var link proto.Link
		l.do(&link, "link", card)
		require.Equal(t, 1400, link.MTU)
		l.requireNetwork()
	})
}

// The boot program of QEMU's network card is a guest that needs no system. It prints the lease on the screen, which is
// the serial line here.
func TestIPXEGetsItsLease(t *testing.T) {
	onEachQEMU(t, testIPXE)
}

func testIPXE(t *testing.T, kind kind) {
	vring := startVring(t, "nat")
	m, err := qemu.Start(limited(t), qemu.Options{Userland: kind.userland, Dir: shortDir(t), Socket: vring.Socket})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Kill()) }()
	require.Eventually(t, func() bool {
		return strings.Contains(m.Output(), "net0: 10.0.2.15/255.255.255.0 gw 10.0.2.2")
	}, soon, 10*time.Millisecond, "iPXE has no lease")
}
