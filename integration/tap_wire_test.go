package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/tcpdump"
	"github.com/vringnet/vring/integration/lab/userland"
)

// An uplink is a wire from a bridge of one host to another host, which has 192.0.2.200 and fd00::c8.
const (
	uplinkNumber  = 200
	uplinkAddress = "192.0.2.200"
	uplinkDevice  = "wire"
)

// addUplink puts a wire on a bridge and returns the host at its other end. The wire has no offloads on the side of the
// bridge: what goes over it to the other host are segments with checksums, as over a cable.
func (h *host) addUplink(bridge string) *host {
	h.t.Helper()
	far := newHost(h.t)
	h.wire(uplinkDevice, far)
	h.run("ip link set "+uplinkDevice+" master "+bridge, "ethtool -K "+uplinkDevice+" tx off tso off gso off")
	far.run("ip address add "+uplinkAddress+"/24 dev "+uplinkDevice,
		fmt.Sprintf("ip -6 address add fd00::%x/64 dev %s nodad", uplinkNumber, uplinkDevice))
	return far
}

// serveUplink accepts one connection on a host, exchanges n bytes of test data on it, and delivers how it ended.
func (h *host) serveUplink(n int64) <-chan transferred {
	h.t.Helper()
	var listener net.Listener
	require.NoError(h.t, h.Do(func() (err error) {
		listener, err = net.Listen("tcp4", uplinkAddress+":5201")
		return err
	}))
	h.t.Cleanup(func() { listener.Close() })
	done := make(chan transferred, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			done <- transferred{err: err}
			return
		}
		done <- exchange(conn, n)
		listener.Close()
	}()
	return done
}

// requireUplink exchanges n bytes of test data between the guest and the host behind the uplink, both ways at once.
func (s *station) requireUplink(far *host, n int64) {
	s.t.Helper()
	done := far.serveUplink(n)
	var got proto.Transfer
	s.do(&got, "tcp-dial", uplinkAddress+":5201", n, guestSeed)
	requirePattern(s.t, hostSeed, n, got)
	there := <-done
	require.NoError(s.t, there.err)
	requirePattern(s.t, guestSeed, n, there.got)
}

// longest returns the length of the longest frame that a guest has sent, and of the longest that it was sent.
func (s *station) longest(frames []tcpdump.Frame) (from, to int) {
	for _, f := range frames {
		switch s.mac {
		case f.From:
			from = max(from, f.Length)
		case f.To:
			to = max(to, f.Length)
		}
	}
	return from, to
}

// requireRight checks that all frames of a recording have right checksums, and that there are many.
func requireRight(t *testing.T, frames []tcpdump.Frame) {
	t.Helper()
	right := 0
	for _, f := range frames {
		require.False(t, f.ChecksumWrong(), "%s", f.Text)
		if f.ChecksumRight() {
			right++
		}
	}
	require.Greater(t, right, 100, "frames with a checksum")
}

// wireBytes go each way over the uplink: enough for TCP to make its frames as large as it may.
const wireBytes = 16 << 20

// observe exchanges data with the host behind the uplink and records the TAP device and the wire. What the guest sends must
// have arrived on the wire with right checksums; frames must be above the first bound, or up to the second one.
func (s *station) observe(h, far *host, tap string) (from, to int) {
	s.t.Helper()
	onTAP, onWire := h.record(s.ctx, tap, "tcp"), far.record(s.ctx, uplinkDevice, "tcp and ether src "+s.mac)
	s.requireUplink(far, wireBytes)
	from, to = s.longest(recorded(s.t, onTAP))
	requireRight(s.t, recorded(s.t, onWire))
	s.t.Logf("longest frames on the TAP device: %d from the guest, %d to the guest", from, to)
	return from, to
}

// The longest frame at MTU 1500, and what a frame must exceed to show that segments were left uncut.
const (
	longestFrame = 1514
	largeFrame   = 60_000
)

// Frames of 64 KiB pass the TAP device whole, both ways, for a guest that takes them, and none for a guest that does not.
func TestFramesAreAsLargeAsTheGuestWants(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, kind kind) { // a guest with offloads, which then sends without
		h := newHost(t)
		vring := h.startTAP("tap0", "--bridge", "br0")
		far := h.addUplink("br0")
		s := newUMLStation(limited(t), t, kind.userland, vring, 1).boot()
		from, to := s.observe(h, far, "tap0")
		require.Greater(t, from, largeFrame)
		require.Greater(t, to, largeFrame)

		s.run("ethtool -K " + card + " tx off tso off gso off sg off")
		from, _ = s.observe(h, far, "tap0")
		require.LessOrEqual(t, from, longestFrame)
		vring.requireNoDrops()
	}, onUML(userland.Bookworm), onUML(userland.Forky))
	t.Run("a guest that takes none", func(t *testing.T) {
		h := newHost(t)
		vring := h.startTAP("tap0", "--bridge", "br0")
		far := h.addUplink("br0")
		s := newQEMUStation(limited(t), t, userland.Forky, vring, 1, 1, "csum=off", "gso=off", "host_tso4=off", "host_tso6=off", "host_ecn=off",
			"guest_csum=off", "guest_tso4=off", "guest_tso6=off", "guest_ecn=off").boot()
		onTAP := h.record(s.ctx, "tap0", "tcp and ether dst "+s.mac)
		from, to := s.observe(h, far, "tap0")
		require.LessOrEqual(t, from, longestFrame)
		require.LessOrEqual(t, to, longestFrame)
		requireRight(t, recorded(t, onTAP)) // nobody else sums what the guest gets
		vring.requireNoDrops()
	})
}

// The number of the guest's queue pairs changes while data flows.
func TestChannelsChangeUnderTraffic(t *testing.T) {
	t.Parallel()
	onEachQEMU(t, testChannels)
}

func testChannels(t *testing.T, kind kind) {
	h := newHost(t)
	vring := h.startTAP("tap0", "--bridge", "br0", "--queues", "2")
	far := h.addUplink("br0")
	s := newQEMUStation(limited(t), t, kind.userland, vring, 1, 2).boot()
	stop := far.load(s.ctx, "tcp4", s.loadPort())
	for _, channels := range []int{2, 1, 2, 1, 2} {
		s.run(fmt.Sprintf("ethtool -L %s combined %d", card, channels))
		s.waitReceived(1 << 20)
		require.Equal(t, channels, h.attachedQueues("tap0"))
	}
	stop()
	s.requireUplink(far, labBytes)
}

// attachedQueues returns how many queues of a TAP device the kernel steers frames to.
func (h *host) attachedQueues(tap string) int {
	h.t.Helper()
	var links []struct {
		Info struct {
			Data struct {
				Queues int `json:"numqueues"`
			} `json:"info_data"`
		} `json:"linkinfo"`
	}
	require.NoError(h.t, json.Unmarshal([]byte(h.run("ip -details -json link show "+tap)), &links))
	require.Len(h.t, links, 1)
	return links[0].Info.Data.Queues
}

// loadPort starts a server that swallows what comes, and returns its address.
func (s *station) loadPort() string {
	s.t.Helper()
	require.NoError(s.t, s.Start("tcp-echo", guestTCPPort).Event(s.ctx, nil))
	return fmt.Sprintf("%s:%d", s.v4(), guestTCPPort)
}

// load sends to an echo server from the host, on several connections, and reads what comes back, until it is stopped.
func (h *host) load(ctx context.Context, network, address string) (stop func()) {
	h.t.Helper()
	const flows = 4
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	for range flows {
		var conn net.Conn
		require.NoError(h.t, h.Do(func() (err error) {
			conn, err = (&net.Dialer{Timeout: soon}).DialContext(ctx, network, address)
			return err
		}))
		context.AfterFunc(ctx, func() { conn.Close() })
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		go func() {
			_, _ = io.Copy(conn, proto.Pattern(hostSeed, 1<<40))
			done <- struct{}{}
		}()
	}
	return func() {
		cancel()
		for range flows {
			<-done
		}
	}
}

// waitReceived waits until the guest has received n more bytes.
func (s *station) waitReceived(n uint64) {
	s.t.Helper()
	before := s.link().ReceivedBytes
	require.Eventually(s.t, func() bool { return s.link().ReceivedBytes-before > n }, soon, 10*time.Millisecond)
}
