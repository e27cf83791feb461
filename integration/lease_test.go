package integration

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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
		require.Regexp(t, `10\.0\.2\.15 +[0-9a-f:]{17} +\S+ +kept`, l.vring.ctl("leases", "10.0.2.15"))
		l.requireNetwork()
	}, onUML(userland.Bookworm), onUML(userland.Forky))
}

// The boot program of QEMU's network card is a guest that needs no system. It prints the lease on the screen, which is
// the serial line here, and then runs the script that DHCP names, from a web server on the host.
func TestIPXEGetsItsLeaseAndItsBootFile(t *testing.T) {
	atOnceOnAll(t, testIPXE, onQEMU(userland.Bookworm), onQEMU(userland.Forky),
		kind{userland: userland.Bookworm, frontEnd: "stream", card: "e1000"}, kind{userland: userland.Forky, frontEnd: "stream", card: "e1000"})
}

func testIPXE(t *testing.T, kind kind) {
	const word = "this was booted from the network"
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "#!ipxe\necho %s\nsleep 3600\n", word)
	}))
	t.Cleanup(web.Close)
	_, port, err := net.SplitHostPort(web.Listener.Addr().String())
	require.NoError(t, err)
	vring := startVring(t, "nat", append(kind.vring(), "--allow-host", "tcp:"+port,
		"--boot-file", "ipxe=http://10.0.2.2:"+port+"/boot.ipxe", "--boot-file", "http://10.0.2.2/wrong")...)
	opt := qemu.Options{Userland: kind.userland, Dir: shortDir(t), Socket: vring.Socket, Card: kind.card}
	if kind.frontEnd != "" {
		opt.Socket, opt.Netdev = "", qemu.StreamNetdev(kind.userland, vring.Socket)
	}
	m, err := qemu.Start(limited(t), opt)
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Kill()) }()
	require.Eventually(t, func() bool {
		return strings.Contains(m.Output(), "net0: 10.0.2.15/255.255.255.0 gw 10.0.2.2")
	}, soon, 10*time.Millisecond, "iPXE has no lease")
	require.Eventually(t, func() bool { return strings.Contains(m.Output(), word) }, soon, 10*time.Millisecond, "iPXE does not boot")
}

// docs/network.md, with the reader's folder as the directory of files: firmware tells its architecture, and gets the page's file for that from
// its router. It is a script of iPXE's, which the BIOS runs by that; UEFI finds that it is none of its programs.
func TestFirmwareGetsTheBootFileOfItsArchitecture(t *testing.T) {
	t.Run("BIOS", func(t *testing.T) {
		t.Parallel()
		testBootFile(t, "undionly.kpxe", bootWord, qemu.Options{})
	})
	t.Run("UEFI", func(t *testing.T) {
		t.Parallel()
		testBootFile(t, "snponly.efi", "NBP file downloaded successfully", qemu.Options{Firmware: "/usr/share/ovmf/OVMF.fd", Device: []string{"romfile="}})
	})
}

// bootWord is what the script prints.
const bootWord = "this was booted by TFTP"

// testBootFile boots a machine from the network. It fetches the file, and its firmware prints something about it.
func testBootFile(t *testing.T, file, printed string, machine qemu.Options) {
	r := newReader(t)
	require.NoError(t, os.WriteFile(filepath.Join(r.dir, file), []byte("#!ipxe\necho "+bootWord+"\nsleep 3600\n"), 0o644))
	blocks := blocksOf(t, "network.md", "Booting from the network")
	lines := linesOf(blocks, false, "vring")
	require.Len(t, lines, 1)
	require.NoError(t, os.Chmod(r.dir, 0o755)) // who serves guests is another user where this one is root
	r.types(strings.Replace(lines[0], "/srv/tftp", "/tmp/.", 1))

	machine.Userland, machine.Dir, machine.Socket = userland.Forky, shortDir(t), r.daemons[0].Socket
	m, err := qemu.Start(limited(t), machine)
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Kill()) }()
	require.Eventually(t, func() bool { return strings.Contains(m.Output(), printed) }, 2*soon, tick, printed)
}
