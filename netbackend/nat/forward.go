package nat

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// checkDirectories returns for which forwards no socket can be made.
func (c *Config) checkDirectories() (faults []error) {
	for i := range c.Forwards {
		if err := c.Forwards[i].CheckDirectory(); err != nil {
			faults = append(faults, fmt.Errorf("forward %s: %w", &c.Forwards[i], err))
		}
	}
	return faults
}

const (
	// MaxForwards is how many Forwards a Config may have, and MaxForwardPorts how many ports they may have together. Each is a socket.
	MaxForwards     = 4096
	MaxForwardPorts = 2 << 16
)

// checkForwards returns what is wrong with the forwards, as far as that can be told without looking at the host.
func (c *Config) checkForwards() (faults []error) {
	ports := 0
	for i := range c.Forwards {
		ports += int(c.Forwards[i].Count)
	}
	if len(c.Forwards) > MaxForwards || ports > MaxForwardPorts {
		return []error{fmt.Errorf("%d forwards with %d ports: there may be %d forwards, and %d ports of all of them",
			len(c.Forwards), ports, MaxForwards, MaxForwardPorts)}
	}
	for i := range c.Forwards {
		f := &c.Forwards[i]
		if to := f.Guest.Addr(); to.IsValid() && !c.mayBeGuest(to) {
			faults = append(faults, fmt.Errorf("forward %s: %s is no guest's address in the network %s", f, to, c.networks()))
		}
		for _, err := range f.Check() {
			faults = append(faults, fmt.Errorf("forward %s: %w", f, err))
		}
	}
	return append(faults, c.checkOverlaps()...)
}

// checkOverlaps returns which forwards want the same of the host. Only those are compared that have a port or a path in common.
func (c *Config) checkOverlaps() (faults []error) {
	having, told := map[spec.HostSide][]int{}, map[[2]int]bool{}
	for i := range c.Forwards {
		f := &c.Forwards[i]
		for one := range f.Ports() {
			side := one.Side()
			for _, j := range having[side] {
				if what := f.Overlap(&c.Forwards[j]); what != "" && !told[[2]int{j, i}] && j != i {
					told[[2]int{j, i}] = true
					faults = append(faults, fmt.Errorf("forwards %s and %s both want %s", &c.Forwards[j], f, what))
				}
			}
			having[side] = append(having[side], i)
		}
	}
	return faults
}

// mayBeGuest tells whether a guest may have the address a.
func (c *Config) mayBeGuest(a netip.Addr) bool {
	return (c.Prefix.Contains(a) || c.Prefix6.Contains(a)) && !slices.Contains([]netip.Addr{c.Gateway, c.DNS, c.Gateway6, c.DNS6}, a)
}

// networks names the guest's networks.
func (c *Config) networks() string {
	if !c.Prefix6.IsValid() {
		return c.Prefix.String()
	}
	return c.Prefix.String() + " or " + c.Prefix6.String()
}

// listener is a port or a unix socket of the host that leads into the guest.
type listener struct {
	forward.Socket
	proto       uint8
	index       uint32
	ready       bool         // only EAGAIN clears it
	failed      bool         // UDP: it has errors to tell
	shutNow     *atomic.Bool // it is not listened on now; nil if it has no gate. All queue pairs share it
	acceptProxy bool         // see Forward
	sendProxy   uint8
	to          ipaddr.Endpoint // in the guest
	shared      *sharedSocket   // UDP: the socket. All queue pairs share it
	receiver    udpReceiver     // UDP
}

// acceptor takes connections by forwards, and gives the forwards of both protocols their turns.
type acceptor struct {
	shard     *shard.Shard
	listeners *listenerSet
	tcp       *tcpEngine
	udp       *udpEngine
	calls     []*Call // that were asked for since the last turn
	acceptAt  int64   // no connection is accepted before, 0 if they may be now
	unixPort  uint16  // of the last client of a unix socket, counted from FirstAnyPort
}

// setUp makes that of a queue pair.
func (e *acceptor) setUp(s *shard.Shard, listeners *listenerSet, tcp *tcpEngine, udp *udpEngine) {
	*e = acceptor{shard: s, listeners: listeners, tcp: tcp, udp: udp}
}

// listenAll opens all ports of the forwards, or none.
func listenAll(cfg *Config) (opened []*boundForward, err error) {
	var errs *multierror.Error
	for _, f := range cfg.Forwards {
		for one := range f.Ports() {
			socket, err := forward.Listen(&one, 0, cfg.KeepFiles)
			if err != nil {
				errs = multierror.Append(errs, err)
				continue
			}
			b := bind(BoundForward{Forward: one, Socket: socket}, cfg.Guest)
			b.place(uint32(len(opened)))
			opened = append(opened, b)
		}
	}
	if errs == nil {
		return opened, nil
	}
	closeAll(opened)
	return nil, errs.ErrorOrNil()
}

func closeAll(opened []*boundForward) {
	for _, b := range opened {
		b.listener.Close()
	}
}

// prepareForwards lets the kernel put datagrams for forwards together if the guest takes them so.
func (e *acceptor) prepareForwards() {
	for l := range e.listeners.forwards() {
		e.udp.prepareForward(l)
	}
}

// prepareForward is prepareForwards for one of them.
func (e *udpEngine) prepareForward(l *listener) {
	if e.cfg.GRO && l.proto == netpkt.UDP && e.shard.TakesUSO(&l.to.Addr) {
		l.receiver.gro = unix.SetsockoptInt(int(l.FD), hostsock.SolUDP, unix.UDP_GRO, 1) == nil
	}
}

// closeListeners lets no more clients come by forwards. Their ports stay open: other queue pairs may send by them.
func (e *acceptor) closeListeners() {
	for l := range e.listeners.forwards() {
		if e.shard.Worker != nil && e.shard.Listening {
			e.shard.Worker.Unregister(int(l.FD))
		}
	}
	e.listeners.forgetForwards()
	e.failCalls()
}

const (
	// acceptBurst is how many connections a forward gets through in one turn.
	acceptBurst = 64
	// callBurst is how many forwards have their turn in one of the engine's.
	callBurst = 16
)

// acceptAll takes what has come in on the forwards.
func (e *acceptor) acceptAll(t *shard.Turn) {
	if t.Now >= e.acceptAt {
		e.acceptAt = 0
	}
	if len(e.calls) > 0 {
		e.placeCalls(t)
	}
	turns, busy := 0, 0
	for ; turns < e.listeners.waiting() && busy < callBurst; turns++ {
		if e.answerCall(t, e.listeners.ready(turns)) {
			busy++
		}
	}
	t.Again = t.Again || turns < e.listeners.waiting()
	e.listeners.requeue(turns)
}

// answerCall takes what has come in on one forward, and tells whether that was possible now.
func (e *acceptor) answerCall(t *shard.Turn, l *listener) bool {
	if l.proto == netpkt.UDP {
		e.udp.receiveForwarded(t, l)
		return !t.RXFull
	}
	if l.isShut() {
		l.ready = false
		return false
	}
	if e.acceptAt == 0 {
		e.acceptBurst(t, l)
	}
	return e.acceptAt == 0
}

func (e *acceptor) acceptBurst(t *shard.Turn, l *listener) {
	if e.acceptSome(t, l, acceptBurst) == acceptBurst {
		t.Again = true
	}
}

// acceptSome takes up to most connections, and returns how many. If there are fewer, there are no more now.
func (e *acceptor) acceptSome(t *shard.Turn, l *listener, most int) (taken int) {
	for taken < most {
		fd, peer, err := unix.Accept4(int(l.FD), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err == unix.EAGAIN {
			l.ready = false
			return taken
		}
		if err != nil {
			e.acceptFailed(t, err)
			return taken
		}
		taken++
		if _, ok := peer.(*unix.SockaddrUnix); ok {
			e.accept(t, fd, e.unixClient(), l, shard.UnixSocket)
			continue
		}
		e.accept(t, fd, ipaddr.EndpointFrom(hostsock.AddrPortOf(peer, nil)), l, 0)
	}
	return taken
}

// acceptRetry is how long accepting pauses when the process lacks descriptors or memory.
const acceptRetry = int64(100e6)

// acceptFailed deals with connections that ended before they were taken, which are of no interest, and with a lack of
// descriptors or memory: then the rest waits in the kernel for a while.
func (e *acceptor) acceptFailed(t *shard.Turn, err error) {
	switch err {
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		t.OverLimit(limits.Host)
		e.acceptAt = t.Now + acceptRetry
	default:
		t.Again = true
	}
}

// next returns when connections are accepted again, 0 if nothing waits for that.
func (e *acceptor) next() int64 { return e.acceptAt }
