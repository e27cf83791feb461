package taps

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/testbed"
	"github.com/vringnet/vring/integration/lab/netns"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/testpmd"
)

const (
	nameDPDK = "net_vhost + net_tap"
	// The front end polls the rings on processor 0, see package testpmd; the back end has processor 1.
	frontProcessor, backProcessor = 0, 1
	// warmUp is how long traffic flows before it is counted.
	warmUp = 500 * time.Millisecond
)

// frameServer is a back end of the contest of frames.
type frameServer interface {
	// serve starts it, with the TAP device in the namespace.
	serve(a *arena, n *netns.Namespace) (*process.Process, error)
}

// framed is the subject of a frameServer.
type framed struct {
	label  string
	server frameServer
}

func (f framed) name() string { return f.label }

// serve implements frameServer.
func (b build) serve(a *arena, n *netns.Namespace) (*process.Process, error) {
	return b.start(a, n, onProcessor(backProcessor)...)
}

// dpdk is testpmd, which forwards frames between its vhost and its TAP driver.
type dpdk struct{}

// serve implements frameServer.
func (dpdk) serve(a *arena, n *netns.Namespace) (*process.Process, error) {
	peer, err := testpmd.Start(a.ctx, testpmd.Options{
		Socket: a.socket(), Backend: true, Dir: a.dir, Mode: testpmd.IO, Thread: n.Enter,
		EAL: []string{"--vdev=net_tap0,iface=" + device},
	})
	if err != nil {
		return nil, err
	}
	a.later(peer.Kill)
	return peer.Process, peer.Forward()
}

// take implements subject.
func (f framed) take(a *arena, l load, length time.Duration) (sample, error) {
	n, err := a.namespace()
	if err != nil {
		return sample{}, err
	}
	backEnd, err := f.server.serve(a, n)
	if err != nil {
		return sample{}, err
	}
	mode := testpmd.Transmit
	if l.Direction == testbed.In {
		mode = testpmd.Receive
	}
	front, err := testpmd.Start(a.ctx, testpmd.Options{Socket: a.socket(), Dir: a.dir, Mode: mode, FrameSize: l.Size})
	if err != nil {
		return sample{}, err
	}
	a.later(front.Kill)
	if err := front.Forward(); err != nil {
		return sample{}, err
	}
	counter := func() (int64, error) {
		c, err := counted(n)
		return int64(c.RxPackets), err
	}
	if l.Direction == testbed.In {
		if err := generate(a, n, l.Size); err != nil {
			return sample{}, err
		}
		counter = func() (int64, error) {
			stats, err := front.PortStats()
			return int64(stats.ReceivedPackets), err
		}
	}
	time.Sleep(warmUp)
	return count(backEnd, counter, l.Size, length)
}

// count reads counters at both ends of a while.
func count(backEnd *process.Process, counter func() (int64, error), size int, length time.Duration) (got sample, err error) {
	read := func() (frames int64, used usage, err error) {
		if frames, err = counter(); err != nil {
			return frames, used, err
		}
		used.backEnd, err = machine.GroupTimes(backEnd.PID())
		return frames, used, err
	}
	before, usedBefore, err := read()
	if err != nil {
		return got, err
	}
	start := time.Now()
	time.Sleep(length)
	after, usedAfter, err := read()
	if err != nil {
		return got, err
	}
	got.Elapsed = time.Since(start)
	got.Frames = after - before
	got.Count = got.Frames * int64(size)
	usedAfter.since(usedBefore, &got)
	if got.Frames == 0 {
		return got, fmt.Errorf("no frame has passed; the back end's last words: %s", lastLine(backEnd.Output()))
	}
	return got, nil
}

// counted returns the counters of the device: what it has received comes from the guest.
func counted(n *netns.Namespace) (counters netlink.LinkStatistics64, err error) {
	err = n.Do(func() error {
		link, err := netlink.LinkByName(device)
		if err == nil {
			counters = netlink.LinkStatistics64(*link.Attrs().Statistics)
		}
		return err
	})
	return counters, err
}

const (
	// frameHeaders are those of a UDP datagram: Ethernet, IPv4, UDP.
	frameHeaders = 14 + 20 + 8
	// maxSegments is what the kernel cuts of one call at most (UDP_MAX_SEGMENTS of older kernels), and maxPayload what a
	// call may have.
	maxSegments = 64
	maxPayload  = 65507
)

// generate sends frames of a size to the guest, until the arena is closed: more than any back end takes. The kernel cuts
// many frames of one call, so that the one who sends is faster than the one who reads.
func generate(a *arena, n *netns.Namespace, size int) error {
	err := run(n, "ip address replace "+hostAddress+prefix+" dev "+device, "ip link set "+device+" up",
		"ip neighbour replace "+peerAddress+" lladdr 02:00:00:00:00:02 dev "+device+" nud permanent")
	if err != nil {
		return err
	}
	var conn *net.UDPConn
	err = n.Do(func() (err error) {
		conn, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.ParseIP(peerAddress), Port: 9})
		return err
	})
	if err != nil {
		return err
	}
	payload := size - frameHeaders
	if err := segment(conn, payload); err != nil {
		return err
	}
	buf := make([]byte, min(maxSegments, maxPayload/payload)*payload)
	ctx, stop := context.WithCancel(a.ctx)
	var done sync.WaitGroup
	done.Go(func() { sendAll(ctx, conn, buf) })
	a.later(func() error {
		stop()
		done.Wait()
		return conn.Close()
	})
	return nil
}

// segment makes every call on conn send datagrams of a payload size.
func segment(conn *net.UDPConn, payload int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, payload) })
	if err != nil {
		return err
	}
	return failed
}

// sendAll sends on the processor of the front end, which is never the limit. What does not fit the device's queue is lost.
func sendAll(ctx context.Context, conn *net.UDPConn, buf []byte) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	var processors unix.CPUSet
	processors.Set(frontProcessor)
	_ = unix.SchedSetaffinity(0, &processors)
	for ctx.Err() == nil {
		_, _ = conn.Write(buf)
	}
}
