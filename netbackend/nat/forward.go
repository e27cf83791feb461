package nat

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/socketfile"
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
	fd          int32
	file        socketfile.File // of a unix socket
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

const backlog = 1024 // connections that the kernel keeps for us; it cuts this to its own limit

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
					fd: l.fd, via: l.index + 1, guest: l.to, sender: udpSender{v6: f.Host.Addr().Is6()},
					asksWays: f.Host.Addr().IsUnspecified() && askWays(&any, int(l.fd)),
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
		l.close()
	}
}

// close gives the port or the path back.
func (l *listener) close() {
	_ = l.file.Remove()
	_ = unix.Close(int(l.fd))
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
	if f.Gate {
		l.shutNow = new(atomic.Bool)
	}
	if f.Path != "" {
		if err := listenUnix(cfg, f.Path, &l); err != nil {
			return l, &BindError{Proto: f.Proto, Path: f.Path, Err: err}
		}
		return l, nil
	}
	host := netip.AddrPortFrom(f.Host.Addr(), f.Host.Port()+i)
	kind := unix.SOCK_STREAM
	if f.Proto == protoUDP {
		kind = unix.SOCK_DGRAM
	}
	e := ipaddr.EndpointFrom(host)
	fd, err := unix.Socket(e.Addr.Domain(), kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return l, fmt.Errorf("socket for the forward of %s %s: %w", spec.ProtoName(f.Proto), host, err)
	}
	l.fd = int32(fd)
	if err := bind(fd, f.Proto, &e); err != nil {
		_ = unix.Close(fd)
		return l, newBindError(f.Proto, host, err)
	}
	if f.Gate {
		l.shut() // it was open for long enough to tell that nobody else is there
	}
	return l, nil
}

func bind(fd int, proto uint8, to *ipaddr.Endpoint) error {
	if !to.Addr.Is4() {
		// 0.0.0.0 and :: are asked for separately, and can both be had.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
	}
	if proto == protoUDP {
		keepErrors(&to.Addr, fd, 1)
		return unix.Bind(fd, to.Sockaddr())
	}
	// Without it, a restart would have to wait for connections of the run before to time out.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	readInLine(fd) // so are the connections, from their first byte on
	if err := unix.Bind(fd, to.Sockaddr()); err != nil {
		return err
	}
	return unix.Listen(fd, backlog)
}

// BindError tells that a port or a path of the host could not be had for a forward.
type BindError struct {
	Proto  uint8          // unix.IPPROTO_TCP or unix.IPPROTO_UDP
	Path   string         // of a unix socket; empty for a port
	Host   netip.AddrPort // what was asked for
	Holder string         // name and number of the process that has it, "" if that is not known
	Err    error          // of bind(2) or listen(2)
}

func newBindError(proto uint8, host netip.AddrPort, err error) *BindError {
	e := &BindError{Proto: proto, Host: host, Err: err}
	if errors.Is(err, unix.EADDRINUSE) {
		e.Holder = holder(proto, host)
	}
	return e
}

// Error says what failed, and what can be done about it.
func (e *BindError) Error() string {
	if e.Path != "" {
		return fmt.Sprintf("forward of the socket %s: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("forward of %s %s: %s", spec.ProtoName(e.Proto), e.Host, e.reason())
}

func (e *BindError) reason() string {
	switch {
	case errors.Is(e.Err, unix.EADDRINUSE) && e.Holder != "":
		return fmt.Sprintf("%s has the port; choose another host port, or end it", e.Holder)
	case errors.Is(e.Err, unix.EADDRINUSE):
		return "another program has the port; choose another host port, or end it"
	case errors.Is(e.Err, unix.EACCES):
		return "this port needs CAP_NET_BIND_SERVICE; choose a host port from 1024 on"
	case errors.Is(e.Err, unix.EADDRNOTAVAIL):
		return fmt.Sprintf("%s is not an address of this host", e.Host.Addr())
	}
	return e.Err.Error()
}

// Unwrap returns the error of the system call.
func (e *BindError) Unwrap() error { return e.Err }

// forwards are the listeners of the user's forwards. Those of mappings stand behind them.
func (p *Port) forwards() []listener { return p.listen[:p.nForwards] }

// registerListeners lets the worker watch the forwards' ports.
func (p *Port) registerListeners() error {
	for i, l := range p.forwards() {
		if err := p.worker.RegisterInput(int(l.fd), token(tokenListener, 0, uint32(i))); err != nil {
			return err
		}
	}
	return nil
}

// prepareForwards lets the kernel put datagrams for forwards together if the guest takes them so.
func (p *Port) prepareForwards() {
	if !p.cfg.UDPGRO {
		return
	}
	for i := range p.forwards() {
		if l := &p.listen[i]; l.proto == protoUDP && p.takesUSO(&l.to.Addr) {
			l.receiver.gro = unix.SetsockoptInt(int(l.fd), solUDP, unix.UDP_GRO, 1) == nil
		}
	}
}

// closeListeners gives the forwards' ports back.
func (p *Port) closeListeners() {
	last := p.pairs.open.Add(-1) == 0 // until then, others may send by them
	for _, l := range p.forwards() {
		if p.worker != nil && p.listening {
			p.worker.Unregister(int(l.fd))
		}
		if last {
			l.close()
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
		fd, peer, err := unix.Accept4(int(l.fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
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
