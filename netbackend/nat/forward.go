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
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// checkForwards returns what is wrong with the forwards, as far as that can be told without opening them.
func (c *Config) checkForwards() (faults []error) {
	for i := range c.Forwards {
		f := &c.Forwards[i]
		if to := f.Guest.Addr(); to.IsValid() && !c.mayBeGuest(to) {
			faults = append(faults, fmt.Errorf("forward %s: %s is no guest's address in the network %s", f, to, c.networks()))
		}
		for _, err := range f.Check() {
			faults = append(faults, fmt.Errorf("forward %s: %w", f, err))
		}
		for j := range c.Forwards[:i] {
			if what := f.Overlap(&c.Forwards[j]); what != "" {
				faults = append(faults, fmt.Errorf("forwards %s and %s both want %s", &c.Forwards[j], f, what))
			}
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

// listenAll opens all ports of the forwards, or none.
func listenAll(cfg *Config) (opened []listener, err error) {
	var errs *multierror.Error
	for _, f := range cfg.Forwards {
		for i := range f.Count {
			l, err := listen(cfg, f, i)
			if err != nil {
				errs = multierror.Append(errs, err)
				continue
			}
			l.index = uint32(len(opened))
			if l.proto == protoUDP {
				any := ipaddr.From(f.Host.Addr())
				l.shared = &sharedSocket{
					fd: l.FD, via: l.index + 1, guest: l.to, sender: udpSender{v6: f.Host.Addr().Is6()},
					asksWays: f.Host.Addr().IsUnspecified() && hostsock.WantAsked(&any, int(l.FD)),
				}
			}
			opened = append(opened, l)
		}
	}
	if errs == nil {
		return opened, nil
	}
	closeAll(opened)
	return nil, errs.ErrorOrNil()
}

func closeAll(opened []listener) {
	for _, l := range opened {
		l.Close()
	}
}

// listen opens the i-th port of f.
func listen(cfg *Config, f spec.Forward, i uint16) (listener, error) {
	guest := f.Guest.Addr()
	if !guest.IsValid() {
		guest = cfg.Guest
	}
	l := listener{
		proto: f.Proto, acceptProxy: f.AcceptProxy, sendProxy: f.SendProxy,
		to: ipaddr.EndpointFrom(netip.AddrPortFrom(guest, f.Guest.Port()+i)),
	}
	var err error
	if l.Socket, err = forward.Listen(&f, i, forward.Options{Prepare: prepareListener, KeepFiles: cfg.KeepFiles}); err != nil {
		return l, err
	}
	if f.Gate {
		l.shutNow = new(atomic.Bool)
		l.shut() // it was open for long enough to tell that nobody else is there
	}
	return l, nil
}

// prepareListener prepares the socket of a forward.
func prepareListener(fd int, proto uint8, at *ipaddr.Endpoint) {
	if proto == protoUDP {
		hostsock.KeepErrors(&at.Addr, fd, 1)
		return
	}
	hostsock.ReadInline(fd) // so are the connections, from their first byte on
}

// forwards are the listeners of the user's forwards. Those of mappings stand behind them.
func (p *Port) forwards() []listener { return p.listen[:p.nForwards] }

// registerListeners lets the worker watch the forwards' ports.
func (p *Port) registerListeners() error {
	for i, l := range p.forwards() {
		if err := p.worker.RegisterInput(int(l.FD), token(tokenListener, 0, uint32(i))); err != nil {
			return err
		}
	}
	return p.listenToGroups()
}

// prepareForwards lets the kernel put datagrams for forwards together if the guest takes them so.
func (p *Port) prepareForwards() {
	if !p.cfg.UDPGRO {
		return
	}
	for i := range p.forwards() {
		if l := &p.listen[i]; l.proto == protoUDP && p.takesUSO(&l.to.Addr) {
			l.receiver.gro = unix.SetsockoptInt(int(l.FD), hostsock.SolUDP, unix.UDP_GRO, 1) == nil
		}
	}
}

// closeListeners gives the forwards' ports back.
func (p *Port) closeListeners() {
	last := p.pairs.open.Add(-1) == 0 // until then, others may send by them
	p.closeGroups(last)
	for _, l := range p.forwards() {
		if p.worker != nil && p.listening {
			p.worker.Unregister(int(l.FD))
		}
		if last {
			l.Close()
		}
	}
}

const (
	// acceptBurst is how many connections a forward gets through in one turn.
	acceptBurst = 64
	// callBurst is how many forwards have their turn in one of the engine's.
	callBurst = 16
)

// call notes that something has come in on a forward.
func (p *Port) call(index uint32) {
	if l := &p.listen[index]; !l.ready && !l.isShut() {
		l.ready = true
		p.called = append(p.called, index)
	}
}

// acceptAll takes what has come in on the forwards.
func (p *Port) acceptAll() {
	if p.now >= p.acceptAt {
		p.acceptAt = 0
	}
	turns, busy := 0, 0
	for ; turns < len(p.called) && busy < callBurst; turns++ {
		if p.answerCall(&p.listen[p.called[turns]]) {
			busy++
		}
	}
	p.again = p.again || turns < len(p.called)
	p.requeue(turns)
}

// answerCall takes what has come in on one forward, and tells whether that was possible now.
func (p *Port) answerCall(l *listener) bool {
	if l.proto == protoUDP {
		p.receiveForwarded(l)
		return !p.rxFull
	}
	if l.isShut() {
		l.ready = false
		return false
	}
	if p.acceptAt == 0 {
		p.acceptBurst(l)
	}
	return p.acceptAt == 0
}

// requeue puts the first n of the forwards that were called, which have had their turn, behind the others, unless they
// have nothing more.
func (p *Port) requeue(n int) {
	for _, i := range p.called[:n] {
		if p.listen[i].ready {
			p.called = append(p.called, i)
		}
	}
	p.called = slices.Delete(p.called, 0, n)
}

func (p *Port) acceptBurst(l *listener) {
	for range acceptBurst {
		fd, peer, err := unix.Accept4(int(l.FD), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err == unix.EAGAIN {
			l.ready = false
			return
		}
		if err != nil {
			p.acceptFailed(err)
			return
		}
		if _, ok := peer.(*unix.SockaddrUnix); ok {
			p.accept(fd, p.unixClient(), l, unixSocket)
			continue
		}
		p.accept(fd, ipaddr.EndpointFrom(addrPortOf(peer, nil)), l, 0)
	}
	p.again = true
}

// acceptRetry is how long accepting pauses when the process lacks descriptors or memory.
const acceptRetry = int64(100e6)

// acceptFailed deals with connections that ended before they were taken, which are of no interest, and with a lack of
// descriptors or memory: then the rest waits in the kernel for a while.
func (p *Port) acceptFailed(err error) {
	switch err {
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		p.hit(limitHost)
		p.acceptAt = p.now + acceptRetry
	default:
		p.again = true
	}
}
