package nat

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// Forward opens ports of the host, or a unix socket, that lead to ports of the guest.
type Forward struct {
	Proto uint8          // unix.IPPROTO_TCP or unix.IPPROTO_UDP
	Path  string         // of a unix socket, for which the guest's side is TCP; empty for ports
	Host  netip.AddrPort // first of the host's ports, and the address that it is bound to
	Guest netip.AddrPort // first of the guest's ports; the zero Addr means the guest's address
	Count uint16         // number of ports
	Gate  bool           // the host's ports refuse connections while the guest's do
	// AcceptProxy takes a PROXY header from each client in front of its stream, and believes what it tells: only proxies
	// may have a way to the port or socket.
	AcceptProxy bool
	SendProxy   uint8 // version of the PROXY header that the guest gets in front of each client's stream, 0 for none
}

// String returns f as ParseForward reads it.
func (f Forward) String() string {
	guest := portRange(f.Guest.Port(), f.Count)
	if f.Guest.Addr().IsValid() {
		guest = bracketed(f.Guest.Addr()) + ":" + guest
	}
	if f.Path != "" {
		return f.options() + unixPrefix + f.Path + ":" + guest
	}
	host := portRange(f.Host.Port(), f.Count)
	return f.options() + fmt.Sprintf("%s:%s:%s:%s", protoName(f.Proto), bracketed(f.Host.Addr()), host, guest)
}

// bracketed is an address in front of a port.
func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

func portRange(first, count uint16) string {
	if count == 1 {
		return strconv.Itoa(int(first))
	}
	return fmt.Sprintf("%d-%d", first, first+count-1)
}

// clash names what of the host both f and g want, "" if there is nothing.
func (f *Forward) clash(g *Forward) string {
	if f.Path != "" || g.Path != "" {
		if f.Path != "" && g.Path != "" && filepath.Clean(f.Path) == filepath.Clean(g.Path) {
			return "the socket " + filepath.Clean(f.Path)
		}
		return ""
	}
	a, b := f.Host, g.Host
	if f.Proto != g.Proto || a.Addr().Is4() != b.Addr().Is4() ||
		a.Addr() != b.Addr() && !a.Addr().IsUnspecified() && !b.Addr().IsUnspecified() {
		return ""
	}
	port := max(a.Port(), b.Port())
	if port-a.Port() >= f.Count || port-b.Port() >= g.Count {
		return ""
	}
	return fmt.Sprintf("port %d of the host", port)
}

// checkForwards returns what is wrong with the forwards, as far as that can be told without opening them.
func (c *Config) checkForwards() (faults []error) {
	for i := range c.Forwards {
		f := &c.Forwards[i]
		if to := f.Guest.Addr(); to.IsValid() && !c.mayBeGuest(to) {
			faults = append(faults, fmt.Errorf("forward %s: %s is no guest's address in the network %s", f, to, c.networks()))
		}
		for _, err := range []error{f.checkGate(), f.checkProxy()} {
			if err != nil {
				faults = append(faults, fmt.Errorf("forward %s: %w", f, err))
			}
		}
		if err := f.checkPath(); err != nil {
			faults = append(faults, fmt.Errorf("forward %s: %w", f, err))
		}
		for j := range c.Forwards[:i] {
			if what := f.clash(&c.Forwards[j]); what != "" {
				faults = append(faults, fmt.Errorf("forwards %s and %s both want %s", &c.Forwards[j], f, what))
			}
		}
	}
	return faults
}

// checkPath tells why no socket can be made at f's path.
func (f *Forward) checkPath() error {
	if f.Path == "" {
		return nil
	}
	if err := socketfile.CheckLength(f.Path); err != nil {
		return err
	}
	return socketfile.CheckDirectory(f.Path)
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

// What may stand in front of a forward, once each and in any order.
const (
	gatePrefix        = "gate:"
	acceptProxyPrefix = "accept-proxy:"
	sendProxy1Prefix  = "send-proxy:"
	sendProxy2Prefix  = "send-proxy-v2:"
)

// options returns what stands in front of f.
func (f *Forward) options() (text string) {
	if f.Gate {
		text += gatePrefix
	}
	if f.AcceptProxy {
		text += acceptProxyPrefix
	}
	switch f.SendProxy {
	case 1:
		text += sendProxy1Prefix
	case 2:
		text += sendProxy2Prefix
	}
	return text
}

// cutOption takes an option from the front of text, and adds it to f.
func (f *Forward) cutOption(text string) (rest string, found bool, err error) {
	for _, prefix := range []string{gatePrefix, acceptProxyPrefix, sendProxy1Prefix, sendProxy2Prefix} {
		rest, found = strings.CutPrefix(text, prefix)
		if !found {
			continue
		}
		var said bool
		switch prefix {
		case gatePrefix:
			said, f.Gate = f.Gate, true
		case acceptProxyPrefix:
			said, f.AcceptProxy = f.AcceptProxy, true
		case sendProxy1Prefix:
			said, f.SendProxy = f.SendProxy != 0, 1
		case sendProxy2Prefix:
			said, f.SendProxy = f.SendProxy != 0, 2
		}
		if said {
			err = fmt.Errorf("duplicate or conflicting option %s", prefix)
		}
		return rest, true, err
	}
	return text, false, nil
}

// What options of the command line read like. Help, messages and documentation show these texts.
const (
	ForwardForm     = "[OPTION:]...[tcp:|udp:][HOST-ADDRESS:]HOST-PORT[-LAST]:[GUEST-ADDRESS:]GUEST-PORT[-LAST]"
	UnixForwardForm = "[OPTION:]...unix:PATH:[GUEST-ADDRESS:]GUEST-PORT"
	HostServiceForm = "[tcp:|udp:][ADDRESS:]PORT[-LAST], or icmp:ADDRESS"
	RuleForm        = "[tcp:|udp:|icmp:]ADDRESS[/BITS][:PORT[-LAST]]"
)

// ParseForward reads ForwardForm or UnixForwardForm. An error is one line. It says what to write, if text is another
// program's way to say the same.
func ParseForward(text string) (Forward, error) {
	f, err := readForward(text)
	if err == nil {
		return f, nil
	}
	if strings.HasPrefix(text, "guestfwd=") {
		return f, fmt.Errorf("forward %q: it leads to the host; write --allow-host tcp:PORT, and the guest finds the service at "+
			"the router's address", text)
	}
	if c, ok := correctForward(text); ok {
		return f, fmt.Errorf("forward %q: %s; write -p %s", text, c.why, c.text)
	}
	if strings.Contains(text, unixPrefix) {
		return f, fmt.Errorf("forward %q: %w; want %s, as in unix:/run/web.sock:80", text, err, UnixForwardForm)
	}
	return f, fmt.Errorf("forward %q: %w; want %s, as in 8080:80", text, err, ForwardForm)
}

// readForward reads a forward with its options.
func readForward(text string) (Forward, error) {
	var options Forward
	rest, found := text, true
	for found {
		var err error
		if rest, found, err = options.cutOption(rest); err != nil {
			return Forward{}, err
		}
	}
	f, err := parseForward(rest)
	f.Gate, f.AcceptProxy, f.SendProxy = options.Gate, options.AcceptProxy, options.SendProxy
	if err != nil {
		return f, err
	}
	for _, err := range []error{f.checkGate(), f.checkProxy()} {
		if err != nil {
			return Forward{}, err
		}
	}
	return f, nil
}

// parseForward reads a forward without options.
func parseForward(text string) (Forward, error) {
	if rest, ok := strings.CutPrefix(text, unixPrefix); ok {
		return parseUnixForward(rest)
	}
	proto, rest := parseProto(text)
	host, guest, err := splitSides(splitColons(rest))
	if err != nil {
		return Forward{}, err
	}
	hostAddr, hostFirst, hostCount, err := parseSide(host, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	if err != nil {
		return Forward{}, fmt.Errorf("host side: %w", err)
	}
	guestAddr, guestFirst, guestCount, err := parseSide(guest, netip.Addr{})
	if err != nil {
		return Forward{}, fmt.Errorf("guest side: %w", err)
	}
	if hostCount != guestCount {
		return Forward{}, fmt.Errorf("%d ports of the host cannot lead to %d of the guest", hostCount, guestCount)
	}
	return Forward{
		Proto: proto, Count: hostCount,
		Host: netip.AddrPortFrom(hostAddr, hostFirst), Guest: netip.AddrPortFrom(guestAddr, guestFirst),
	}, nil
}

// What names a protocol in front of ports.
const (
	tcpPrefix  = "tcp:"
	udpPrefix  = "udp:"
	icmpPrefix = "icmp:"
)

// parseProto takes the protocol from the front of text; it is TCP if nothing is said.
func parseProto(text string) (proto uint8, rest string) {
	if rest, ok := strings.CutPrefix(text, udpPrefix); ok {
		return protoUDP, rest
	}
	return protoTCP, strings.TrimPrefix(text, tcpPrefix)
}

// splitColons splits text at its colons, but for those within brackets.
func splitColons(text string) (parts []string) {
	start, inside := 0, false
	for i, c := range text {
		inside = c == '[' || inside && c != ']'
		if c == ':' && !inside {
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}

// splitSides returns which parts name the host and which the guest. Of two parts in front of each other the first is an
// address.
func splitSides(parts []string) (host, guest []string, err error) {
	n := 1
	if !isPortLike(parts[0]) {
		n = 2 // an address first
	}
	switch {
	case len(parts) <= n:
		return nil, nil, errors.New("a host port and a guest port are needed")
	case len(parts)-n > 2:
		return nil, nil, errors.New("there are too many colons")
	}
	return parts[:n], parts[n:], nil
}

// isPortLike reports whether a part is a port, or was to be one: it has no dots or brackets, and begins with a digit.
func isPortLike(s string) bool {
	return s == "" || !strings.ContainsAny(s, ".[") && s[0] >= '0' && s[0] <= '9'
}

// parseSide reads [ADDRESS:]PORT[-LAST], split at the colon.
func parseSide(parts []string, addr netip.Addr) (_ netip.Addr, first, count uint16, err error) {
	if len(parts) == 2 {
		if addr, err = parseBracketed(parts[0]); err != nil {
			return addr, 0, 0, err
		}
	}
	first, last, err := parsePortRange(parts[len(parts)-1])
	return addr, first, last - first + 1, err
}

// parseBracketed reads an address in front of a port, where one of IPv6 stands in brackets.
func parseBracketed(text string) (netip.Addr, error) {
	inside, isBracketed := strings.CutPrefix(text, "[")
	if isBracketed {
		inside, isBracketed = strings.CutSuffix(inside, "]")
	}
	a, err := parseAddress(inside)
	if err == nil && a.Is6() != isBracketed {
		return a, fmt.Errorf("%q: IPv6 addresses are written in brackets, and no others", text)
	}
	return a, err
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port between 1 and 65535", text)
	}
	return uint16(n), nil
}

// ParseHostServices reads HostServiceForm: without an address, ports of the host's loopback behind the gateway's address,
// which is also what 127.0.0.1 and ::1 mean, for one version of IP each. Without a protocol it is TCP. An error is one line.
func ParseHostServices(text string) ([]HostService, error) {
	services, err := readHostServices(text)
	if err == nil {
		return services, nil
	}
	if c, ok := correctService(text); ok {
		return nil, fmt.Errorf("host service %q: %s; write --allow-host %s", text, c.why, c.text)
	}
	return nil, fmt.Errorf("host service %q: %w; want %s, as in tcp:5432", text, err, HostServiceForm)
}

func readHostServices(text string) ([]HostService, error) {
	if ping, isPing := strings.CutPrefix(text, icmpPrefix); isPing {
		return readPing(ping)
	}
	proto, ports := parseProto(text)
	var addr netip.Addr
	parts := splitColons(ports)
	if len(parts) > 2 {
		return nil, errors.New("IPv6 addresses are written in brackets")
	}
	if len(parts) == 2 {
		var err error
		if addr, err = parseBracketed(parts[0]); err != nil {
			return nil, err
		}
		ports = parts[1]
	}
	if err := checkServiceAddress(addr); err != nil {
		return nil, err
	}
	first, last, err := parsePortRange(ports)
	if err != nil {
		return nil, err
	}
	var services []HostService
	for port := int(first); port <= int(last); port++ {
		services = append(services, HostService{Proto: proto, Addr: addr, Port: uint16(port)})
	}
	return services, nil
}

// readPing reads the address of an echo service.
func readPing(text string) ([]HostService, error) {
	a, err := parseAddress(strings.Trim(text, "[]"))
	if err != nil {
		return nil, err
	}
	if a.IsLoopback() || a.IsUnspecified() {
		return nil, fmt.Errorf("the guest cannot name %s; its router always answers", a)
	}
	return []HostService{{Proto: protoICMP, Addr: a}}, nil
}

// checkServiceAddress refuses addresses that no guest can reach the host by.
func checkServiceAddress(a netip.Addr) error {
	switch {
	case a.IsUnspecified():
		return fmt.Errorf("%s is no address of a service; leave it out for the host's loopback", a)
	case a.IsLoopback() && !isRouterLoopback(a):
		return fmt.Errorf("the guest reaches 127.0.0.1 and ::1 of the host's loopback, but not %s", a)
	case a.IsMulticast():
		return fmt.Errorf("%s is a multicast address", a)
	}
	return nil
}

// isRouterLoopback reports whether the gateway's address leads to a, in its version of IP.
func isRouterLoopback(a netip.Addr) bool {
	return a == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || a == netip.IPv6Loopback()
}

// String returns s as ParseHostServices reads it.
func (s HostService) String() string {
	if s.Proto == protoICMP {
		return icmpPrefix + s.Addr.String()
	}
	text := protoName(s.Proto) + ":"
	if s.Addr.IsValid() {
		text += bracketed(s.Addr) + ":"
	}
	return text + strconv.Itoa(int(s.Port))
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
func listen(cfg *Config, f Forward, i uint16) (listener, error) {
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
		return l, fmt.Errorf("socket for the forward of %s %s: %w", protoName(f.Proto), host, err)
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
	return fmt.Sprintf("forward of %s %s: %s", protoName(e.Proto), e.Host, e.reason())
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
