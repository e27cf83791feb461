package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// flood lets the guest send datagrams of a payload size to everybody, whether or not any of them arrives: no address must
// be resolved for it.
func (s *station) flood(payload int) { s.Start("udp-flood", "192.0.2.255:9", payload) }

// What happens to the TAP device and the bridge of a guest that sends all the while: vring lives, its counters tell, and its
// log says it once.
func TestTheHostsNetworkChangesUnderLoad(t *testing.T) {
	h := newHost(t)
	vring := h.startTAP("tap0", "--bridge", "br0", "--reopen")
	far := h.addUplink("br0")
	s := newUMLStation(limited(t), t, userland.Forky, vring, 1).boot()
	s.waitPing(uplinkAddress)
	s.flood(1000)
	sent := func() uint64 { return vring.counters().of(t, "sent") }

	t.Run("the TAP device goes down and up", func(t *testing.T) {
		for range 3 {
			h.run("ip link set tap0 down")
			vring.waitCounter("down", vring.counters().of(t, "down")+1000)
			h.run("ip link set tap0 up")
			s.waitPing(uplinkAddress)
		}
		told := strings.Count(vring.Output(), "the TAP device is down")
		require.Positive(t, told)
		require.LessOrEqual(t, told, 3, "not for each frame")
	})
	t.Run("the bridge is deleted", func(t *testing.T) {
		before := sent()
		h.run("ip link delete br0")
		vring.waitCounter("sent", before+1000) // into the void: the kernel takes them still
		h.run("ip link add br0 type bridge", "ip link set br0 up", "ip link set tap0 master br0", "ip link set wire master br0")
		s.waitPing(uplinkAddress)
	})
	t.Run("the TAP device's MTU is below the guest's", func(t *testing.T) {
		h.run("ip link set tap0 mtu 1000")
		before := sent()
		vring.waitCounter("sent", before+1000)
		h.run("ip link set tap0 mtu 1500")
		s.waitPing(uplinkAddress)
	})
	t.Run("the TAP device is deleted and made again", func(t *testing.T) {
		for times := 1; times <= 2; times++ {
			h.run("ip link delete tap0")
			vring.waitLog("the TAP device was deleted", times)
			vring.waitCounter("detached", vring.counters().of(t, "detached"))
			h.run("ip tuntap add dev tap0 mode tap multi_queue vnet_hdr", "ip link set tap0 master br0 up")
			vring.waitLog("the TAP device is back", times)
			s.waitPing(uplinkAddress)
		}
		require.Equal(t, 2, strings.Count(vring.Output(), "the TAP device was deleted"))
	})
	s.requireUplink(far, labBytes)
}

// Without --reopen there is nothing to wait for: vring ends, with an error that says why.
func TestVringEndsWhenItsTAPDeviceIsDeleted(t *testing.T) {
	h := newHost(t)
	vring := h.startTAPThatFails("tap0", "--bridge", "br0")
	s := newUMLStation(limited(t), t, userland.Forky, vring, 1).boot()
	s.flood(1000)
	h.run("ip link delete tap0")
	require.EqualError(t, vring.Wait(soon), "exit status 1")
	require.Contains(t, vring.Output(), "TAP device tap0 is lost: it was deleted; with --reopen vring waits for the device to come back")
	_, found := h.link("br0")
	require.False(t, found, "the bridge that vring has made is gone too")
}

// startTAPThatFails is startTAP for a vring that is to end with an error.
func (h *host) startTAPThatFails(tap string, args ...string) *daemon {
	d := &daemon{t: h.t, Socket: filepath.Join(shortDir(h.t), "vring.sock"), options: process.Options{Thread: h.Enter}}
	d.args = append([]string{"tap", "--socket-path", d.Socket, "--tap", tap}, args...)
	d.start()
	h.t.Cleanup(func() { require.NoError(h.t, d.Kill()) })
	return d
}

// nobody is the user without rights.
const nobody = "65534"

// asNobody starts vring tap as an ordinary user.
func (h *host) asNobody(tap string, args ...string) *process.Process {
	dir := shortDir(h.t)
	require.NoError(h.t, os.Chmod(dir, 0o777)) // for the socket, and for a program that the user may run
	program, err := os.ReadFile(built.vring)
	require.NoError(h.t, err)
	vring := filepath.Join(dir, "vring")
	require.NoError(h.t, os.WriteFile(vring, program, 0o755))
	cmd := exec.Command("setpriv", append([]string{"--reuid", nobody, "--regid", nobody, "--clear-groups",
		vring, "tap", "--socket-path", filepath.Join(dir, "s"), "--tap", tap}, args...)...)
	p, err := process.Start(h.t.Context(), cmd, process.Options{Thread: h.Enter})
	require.NoError(h.t, err)
	h.t.Cleanup(func() { require.NoError(h.t, p.Kill()) })
	return p
}

// Without rights vring says which one is missing, and the command that grants it. With a TAP device of its own an ordinary
// user needs none.
func TestATAPDeviceOfAnOrdinaryUser(t *testing.T) {
	h := newHost(t)
	denied := h.asNobody("tap0")
	require.EqualError(t, denied.Wait(soon), "exit status 1")
	require.Contains(t, denied.Output(), "CAP_NET_ADMIN")
	require.Contains(t, denied.Output(), "ip tuntap add dev tap0 mode tap multi_queue vnet_hdr user "+nobody)

	h.run("ip tuntap add dev tap0 mode tap user "+nobody+" multi_queue vnet_hdr", "ip link set tap0 up")
	granted := h.asNobody("tap0")
	require.Eventually(t, func() bool { return strings.Contains(granted.Output(), "msg=ready") }, soon, 5*time.Millisecond)

	h.run("ip tuntap add dev tap1 mode tap user 1 multi_queue vnet_hdr")
	foreign := h.asNobody("tap1")
	require.EqualError(t, foreign.Wait(soon), "exit status 1")
	require.Contains(t, foreign.Output(), "TAP device tap1 belongs to user 1")
}

// A front end that has moved a guest here asks for a RARP frame, so that bridges learn where the guest is.
func TestAnAnnouncementGoesOutOnTheWire(t *testing.T) {
	h := newHost(t)
	vring := h.startTAP("tap0", "--bridge", "br0")
	far := h.addUplink("br0")
	fe := connectFrontend(t, vring.Socket)
	recording := far.record(limited(t), uplinkDevice, "rarp")
	mac := [6]byte{0x52, 0x54, 0, 0, 0, 9}
	require.Eventually(t, func() bool {
		// As QEMU does, it asks again: the kernel may take a second until a new port of a bridge forwards.
		require.NoError(t, fe.SendRARP(mac))
		return strings.Contains(h.run("bridge fdb show br br0"), "52:54:00:00:00:09 dev tap0")
	}, soon, 200*time.Millisecond, "the bridge has learnt where the guest is")
	frames := recorded(t, recording)
	require.NotEmpty(t, frames)
	require.Equal(t, "52:54:00:00:00:09", frames[0].From)
	require.Equal(t, "ff:ff:ff:ff:ff:ff", frames[0].To)
}

// connectFrontend is a front end of the test's own, with a queue pair whose rings are empty.
func connectFrontend(t *testing.T, socket string) *frontend.Conn {
	fe, err := frontend.Dial(socket)
	require.NoError(t, err)
	t.Cleanup(func() { fe.Close() })
	memory := vqtest.NewMemory(1<<20, vqtest.Memfd)
	t.Cleanup(memory.Close)
	setup := frontend.Setup{Features: 1<<32 | 1<<15, Memory: memory.Regions()} // VERSION_1, MRG_RXBUF
	for range 2 {
		ring := vqtest.NewDriver(memory, vqtest.Options{Size: 64}).Layout()
		setup.Rings = append(setup.Rings, frontend.Ring{
			Num: uint32(ring.Size), Desc: ring.Desc, Avail: ring.Avail, Used: ring.Used, KickFD: eventFD(t), CallFD: eventFD(t),
		})
	}
	require.NoError(t, fe.Setup(setup))
	return fe
}

func eventFD(t *testing.T) int {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// The MTU that QEMU tells guest and back end is the TAP device's as well, as long as the guest is there.
func TestTheTAPDeviceHasTheGuestsMTU(t *testing.T) {
	h := newHost(t)
	vring := h.startTAP("tap0")
	s := newQEMUStation(limited(t), t, userland.Bookworm, vring, 1, 1, "host_mtu=9000").boot()
	require.Equal(t, 9000, s.link().MTU)
	h.waitMTU("tap0", 9000)
	require.NoError(t, s.Kill())
	h.waitMTU("tap0", 1500)
}

func (h *host) waitMTU(name string, want int) {
	h.t.Helper()
	require.Eventually(h.t, func() bool {
		device, found := h.link(name)
		return found && device.MTU == want
	}, soon, tick, "MTU %d", want)
}
