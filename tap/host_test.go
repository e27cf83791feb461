package tap_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/tap"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// name is the TAP device of most tests, and experimental the protocol of their frames, which nothing else uses.
const (
	name         = "tap0"
	experimental = 0x88b5
)

// inNamespace moves the test to a network namespace of its own, in which nothing is up and nobody speaks IPv6 of his own
// accord. Its thread ends with the test, and so does the namespace.
func inNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("a network namespace for the test: %v; these tests need root", err)
	}
	for _, which := range []string{"all", "default"} {
		require.NoError(t, os.WriteFile("/proc/sys/net/ipv6/conf/"+which+"/disable_ipv6", []byte("1"), 0))
	}
}

// open opens a device and closes it with the test.
func open(t *testing.T, cfg tap.Config) *tap.Device {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = name
	}
	cfg.Queues = max(cfg.Queues, 1)
	d, err := tap.Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// host is the kernel's side of the device: a packet socket that sees each frame with its virtio-net header.
type host struct {
	t  *testing.T
	fd int
}

// listen opens the host's side of the test's device.
func listen(t *testing.T) *host {
	t.Helper()
	return listenOn(t, name)
}

// listenOn is listen for another interface.
func listenOn(t *testing.T, name string) *host {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20))
	const ignoreOutgoing = 23 // PACKET_IGNORE_OUTGOING
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, ignoreOutgoing, 1))
	index := link(t, name).Attrs().Index
	all := binary.BigEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	all = all<<8 | all>>8
	require.NoError(t, unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index, Protocol: all}))
	return &host{t, fd}
}

// send sends a frame to the guest.
func (h *host) send(header vnet.Header, frame []byte) {
	h.t.Helper()
	b := make([]byte, vnet.LegacyHeaderLen, vnet.LegacyHeaderLen+len(frame))
	header.Encode(b)
	_, err := unix.Write(h.fd, append(b, frame...))
	require.NoError(h.t, err)
}

// receive returns the next frame of the guest, the hint HdrLen apart; the test fails if none comes.
func (h *host) receive() (header vnet.Header, frame []byte) {
	h.t.Helper()
	fds := []unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}
	const generous = 120_000
	n, err := unix.Poll(fds, generous)
	require.NoError(h.t, err)
	require.Equal(h.t, 1, n, "no frame has come")
	b := make([]byte, 1<<17)
	n, err = unix.Read(h.fd, b)
	require.NoError(h.t, err)
	if bytes.HasPrefix(b[vnet.LegacyHeaderLen:n], []byte{1, 0, 0x5e}) {
		return h.receive() // the kernel's own, of an interface that comes up
	}
	header.Decode(b[:vnet.LegacyHeaderLen])
	header.HdrLen = 0 // how much of the frame lies in the kernel's first piece
	return header, b[vnet.LegacyHeaderLen:n]
}

// nothing fails the test if a frame has come.
func (h *host) nothing() {
	h.t.Helper()
	_, err := unix.Read(h.fd, make([]byte, 1<<17))
	require.ErrorIs(h.t, err, unix.EAGAIN)
}

// link returns an interface.
func link(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	require.NoError(t, err)
	return l
}

// gone tells that there is no interface of a name.
func gone(name string) bool {
	_, err := netlink.LinkByName(name)
	return err != nil
}

// carrier tells whether an interface has one.
func carrier(t *testing.T, name string) bool {
	return link(t, name).Attrs().RawFlags&unix.IFF_LOWER_UP != 0
}

// frame returns a frame of n bytes of the experimental protocol.
func frame(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	b[0] = 2
	binary.BigEndian.PutUint16(b[12:], experimental)
	return b
}

// segment is a TCP segment over IPv4 with n bytes of payload, its checksum begun only, and the header that says so.
func segment(n int) (vnet.Header, []byte) {
	const ip, tcp = vnet.EthernetHeaderLen, vnet.EthernetHeaderLen + 20
	b := make([]byte, tcp+20+n)
	copy(b, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0})
	copy(b[ip:], []byte{0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2})
	binary.BigEndian.PutUint16(b[ip+2:], uint16(len(b)-ip))
	binary.BigEndian.PutUint16(b[ip+10:], ^vnet.Sum(b[ip:tcp], 0))
	copy(b[tcp:], []byte{0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0})
	binary.BigEndian.PutUint16(b[tcp+16:], vnet.PseudoHeaderSum(6, b[ip+12:ip+16], b[ip+16:ip+20], uint32(len(b)-tcp)))
	for i := range n {
		b[tcp+20+i] = byte(i >> 3)
	}
	return vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: tcp, CsumOffset: 16, HdrLen: tcp + 20}, b
}

// large is a segment that is to be cut up.
func large(n int) (vnet.Header, []byte) {
	h, b := segment(n)
	h.GSOType, h.GSOSize = vnet.GSOTCPv4, 1448
	return h, b
}

// The features of guests, without offloads.
const (
	modern = vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf
	legacy = 0
)

// allOffloads are those that every kernel with TAP devices knows.
const allOffloads = vnet.FeatureCSum | vnet.FeatureHostTSO4 | vnet.FeatureHostTSO6 | vnet.FeatureHostECN |
	vnet.FeatureGuestCSum | vnet.FeatureGuestTSO4 | vnet.FeatureGuestTSO6 | vnet.FeatureGuestECN

// guestOn starts a guest on the first queue of a device; without offloads it acknowledges what Features says and no more.
func guestOn(t *testing.T, d *tap.Device, opt porttest.Options) *porttest.Guest {
	if opt.Features == 0 {
		opt.Features = vnet.FeatureAnyLayout // 0 would stand for everything
	}
	g := porttest.New(t, d.Ports()[0], opt)
	g.MayBreakRules = true // its frames are none of the NAT engine's
	return g
}

// receiveOne waits for one frame and returns it.
func receiveOne(g *porttest.Guest) *porttest.Frame {
	var frames []*porttest.Frame
	g.Until("a frame comes", func() bool { frames = g.Frames(); return len(frames) > 0 })
	return frames[0]
}

// requireFrame compares frames, and shows the beginnings of those that differ.
func requireFrame(t *testing.T, want, got []byte) {
	t.Helper()
	if !bytes.Equal(want, got) {
		t.Fatalf("a frame of %d bytes, want one of %d:\n% x\n% x", len(got), len(want), got[:min(len(got), 64)], want[:min(len(want), 64)])
	}
}

// datagrams is a run of UDP datagrams over IPv4, n bytes in all, that is to be cut up.
func datagrams(n int) (vnet.Header, []byte) {
	const ip, udp = vnet.EthernetHeaderLen, vnet.EthernetHeaderLen + 20
	b := make([]byte, udp+8+n)
	copy(b, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0})
	copy(b[ip:], []byte{0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2})
	binary.BigEndian.PutUint16(b[ip+2:], uint16(len(b)-ip))
	binary.BigEndian.PutUint16(b[ip+10:], ^vnet.Sum(b[ip:udp], 0))
	copy(b[udp:], []byte{0x10, 0, 0x20, 0})
	binary.BigEndian.PutUint16(b[udp+4:], uint16(len(b)-udp))
	binary.BigEndian.PutUint16(b[udp+6:], vnet.PseudoHeaderSum(17, b[ip+12:ip+16], b[ip+16:ip+20], uint32(len(b)-udp)))
	return vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: udp, CsumOffset: 6, HdrLen: udp + 8, GSOType: vnet.GSOUDPL4, GSOSize: 1400}, b
}
