package vxlan

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const second = int64(1e9)

// hand is a Driver whose device the test is, on one goroutine, and remote switches that are sockets of the loopback: remote i has the
// address 127.0.1.i.
type hand struct {
	*Driver
	t       testing.TB
	clock   int64
	tx, rx  *virtqueue.Queue
	writer  netbackend.RXWriter
	at      *unix.SockaddrInet4 // the Driver's socket
	sockets []int
}

func byHand(t testing.TB, remotes int, mappings ...Mapping) *hand {
	h := &hand{t: t, clock: second}
	cfg := Config{VNI: 42, Mappings: mappings}
	for i := range remotes {
		fd := h.socket([4]byte{127, 0, 1, byte(i)})
		name, err := unix.Getsockname(fd)
		require.NoError(t, err)
		cfg.Remotes = append(cfg.Remotes, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}), uint16(name.(*unix.SockaddrInet4).Port)))
		h.sockets = append(h.sockets, fd)
	}
	var err error
	h.Driver, err = New(cfg, 300*time.Second, func() int64 { return h.clock })
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	name, err := unix.Getsockname(h.fd)
	require.NoError(t, err)
	h.at = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: name.(*unix.SockaddrInet4).Port}
	h.Begin()
	h.rx, h.tx = h.queue(0, virtqueue.ToGuest), h.queue(1, virtqueue.FromGuest)
	h.writer.Attach(h.rx, vnet.HeaderLen, true)
	return h
}

// socket is a socket of an address of the loopback.
func (h *hand) socket(a [4]byte) int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(h.t, err)
	require.NoError(h.t, unix.Bind(fd, &unix.SockaddrInet4{Addr: a}))
	h.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func (h *hand) queue(i int, dir virtqueue.Direction) *virtqueue.Queue {
	cfg := h.Ring(i)
	cfg.Dir = dir
	q, err := virtqueue.New(h.Table(), cfg)
	require.NoError(h.t, err)
	return q
}

// say has a socket send a datagram to the Driver.
func (h *hand) say(fd int, b []byte) {
	require.NoError(h.t, unix.Sendto(fd, b, 0, h.at))
}

// hear returns what remote i has received.
func (h *hand) hear(i int) (all [][]byte) {
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(h.sockets[i], buf, 0)
		if err != nil {
			require.ErrorIs(h.t, err, unix.EAGAIN)
			return all
		}
		all = append(all, append([]byte{}, buf[:n]...))
	}
}

// take returns the frames that the Driver has for the switch.
func (h *hand) take() (all [][]byte) {
	for {
		h.Fill(unix.EPOLLIN)
		chains := h.tx.Fetch(virtqueue.MaxBatch)
		for i := range chains {
			frame := make([]byte, chains[i].Len)
			guestmem.CopyFrom(frame, chains[i].Iov, 0)
			require.Equal(h.t, make([]byte, vnet.HeaderLen), frame[:vnet.HeaderLen], "no offloads")
			all = append(all, frame[vnet.HeaderLen:])
		}
		h.tx.UseN(len(chains))
		h.tx.Flush()
		if !h.Drain() && len(chains) == 0 {
			return all
		}
	}
}

// give has the switch send frames.
func (h *hand) give(frames ...[]byte) {
	for _, f := range frames {
		h.writer.Recheck()
		require.True(h.t, h.writer.Write(&vnet.Header{}, f), "room")
	}
	h.rx.Flush()
	h.Drain()
}

// mac is the address of host i.
func mac(i int) [6]byte { return [6]byte{2, 0, 0, 0, 0, byte(i)} }

var broadcast = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ethernet is a frame of n bytes behind its addresses and its tags.
func ethernet(to, from [6]byte, n int, tags ...uint16) []byte {
	f := append(append([]byte{}, to[:]...), from[:]...)
	for _, vid := range tags {
		f = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(f, tagType), vid)
	}
	f = binary.BigEndian.AppendUint16(f, 0x88b5)
	for i := range n {
		f = append(f, byte(i))
	}
	return f
}

// datagram is a frame in a network, as RFC 7348 section 5 has it.
func datagram(vni uint32, frame []byte) []byte {
	return append([]byte{8, 0, 0, 0, byte(vni >> 16), byte(vni >> 8), byte(vni), 0}, frame...)
}
