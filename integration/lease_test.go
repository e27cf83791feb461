package integration

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/qemu"
	"github.com/vringnet/vring/integration/lab/userland"
)

// toldByLease is what a vring tells its guest. requireTold checks it.
var toldByLease = []string{"--mtu", "1400", "--hostname", "vm0", "--domain", "lab.example", "--search", "lab.example", "--search", "test.lab.example"}

// requireTold checks a lease, and that the guest follows it.
func (l *lab) requireTold(lease proto.Lease) {
	l.t.Helper()
	require.Equal(l.t, "10.0.2.15/24", lease.Address)
	require.Equal(l.t, "10.0.2.2", lease.Router)
	require.Equal(l.t, []string{"10.0.2.3"}, lease.DNS)
	require.Equal(l.t, 1400, lease.MTU)
	require.Equal(l.t, "vm0", lease.HostName)
	require.Equal(l.t, "lab.example", lease.Domain)
	require.Equal(l.t, []string{"lab.example", "test.lab.example"}, lease.Search)
	require.Positive(l.t, lease.LeaseTime)

	var link proto.Link
	l.do(&link, "link", card)
	require.Equal(l.t, 1400, link.MTU)
}

// That of QEMU is looked at by TestThePrintedCommandBootsAGuest.
func TestAGuestOfUserModeLinuxGetsItsLease(t *testing.T) {
	atOnceOnAll(t, func(t *testing.T, kind kind) {
		l := newLab(t, kind, toldByLease...)
		l.requireTold(l.lease())
		l.requireNetwork()
	}, onUML(userland.Bookworm), onUML(userland.Forky))
}

// The boot program of QEMU's network card is a guest that needs no system. It prints the lease on the screen, which is
// the serial line here, and then runs the script that DHCP names, from a web server on the host.
func TestIPXEGetsItsLeaseAndItsBootFile(t *testing.T) {
	atOnceOnEachQEMU(t, testIPXE)
}

func testIPXE(t *testing.T, kind kind) {
	const word = "this was booted from the network"
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "#!ipxe\necho %s\nsleep 3600\n", word)
	}))
	t.Cleanup(web.Close)
	_, port, err := net.SplitHostPort(web.Listener.Addr().String())
	require.NoError(t, err)
	vring := startVring(t, "nat", "--allow-host", "tcp:"+port, "--boot-file", "ipxe=http://10.0.2.2:"+port+"/boot.ipxe", "--boot-file", "http://10.0.2.2/wrong")
	m, err := qemu.Start(limited(t), qemu.Options{Userland: kind.userland, Dir: shortDir(t), Socket: vring.Socket})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Kill()) }()
	require.Eventually(t, func() bool {
		return strings.Contains(m.Output(), "net0: 10.0.2.15/255.255.255.0 gw 10.0.2.2")
	}, soon, 10*time.Millisecond, "iPXE has no lease")
	require.Eventually(t, func() bool { return strings.Contains(m.Output(), word) }, soon, 10*time.Millisecond, "iPXE does not boot")
}
