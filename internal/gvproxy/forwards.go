package gvproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/vringnet/vring/internal/control/api"
)

// proxy is a forward as the API has it.
type proxy struct {
	Local    string `json:"local"`
	Remote   string `json:"remote"`
	Protocol string `json:"protocol"`
	close    func(ctx context.Context) error
}

// maxForwards is how many forwards there may be.
const maxForwards = 4096

// forwards are those that came by the API.
type forwards struct {
	mu  sync.Mutex
	all []proxy
	ask asker
	ssh dialSSH
}

// asker asks vring.
type asker interface {
	Do(ctx context.Context, method, path string, question, answer any) error
	dial(ctx context.Context, to string) (net.Conn, error)
}

// dialSSH connects to a unix socket of the guest, as a URI of ssh-tunnel says.
type dialSSH func(ctx context.Context, uri *url.URL) (net.Conn, error)

// list returns the forwards in the order in which the API tells them.
func (f *forwards) list() []proxy {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := append([]proxy{}, f.all...)
	slices.SortFunc(all, func(a, b proxy) int {
		if c := strings.Compare(a.Local, b.Local); c != 0 {
			return c
		}
		return strings.Compare(a.Protocol, b.Protocol)
	})
	return all
}

// expose makes a forward. Errors are worded as gvproxy's.
func (f *forwards) expose(ctx context.Context, protocol, local, remote string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.all) >= maxForwards {
		return fmt.Errorf("there are %d forwards already", maxForwards)
	}
	open := map[string]func(ctx context.Context, local, remote string) (func(context.Context) error, error){
		"tcp": f.openTCP, "udp": f.openUDP, "unix": f.openUnix,
	}[protocol]
	if open == nil {
		return fmt.Errorf("unknown protocol %s", protocol)
	}
	closeIt, err := open(ctx, local, remote)
	if err != nil {
		return err
	}
	f.all = append(f.all, proxy{Local: local, Remote: remote, Protocol: protocol, close: closeIt})
	return nil
}

// unexpose removes a forward.
func (f *forwards) unexpose(ctx context.Context, protocol, local string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.all, func(p proxy) bool { return p.Protocol == protocol && p.Local == local })
	if i < 0 {
		return errors.New("proxy not found")
	}
	p := f.all[i]
	f.all = slices.Delete(f.all, i, i+1)
	return p.close(ctx)
}

// closeAll closes what this process has open.
func (f *forwards) closeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.all {
		if p.Protocol == "unix" {
			_ = p.close(context.Background())
		}
	}
}

// openTCP and openUDP listen once themselves: what is wrong with the address is then told in the words that gvproxy has, too. vring listens
// right after.
func (f *forwards) openTCP(ctx context.Context, local, remote string) (func(context.Context) error, error) {
	to, err := endOf(remote)
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", local)
	if err != nil {
		return nil, err
	}
	if !isGuests(to) { // gvproxy takes it, also if nobody is there
		go forEach(l, func(c net.Conn) { f.passOn(c, to) })
		return func(context.Context) error { return l.Close() }, nil
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	if err := l.Close(); err != nil {
		return nil, err
	}
	return f.forward(ctx, "tcp", at, to)
}

// passOn passes a client on to a host behind the guest's card, if vring knows one with that address.
func (f *forwards) passOn(c net.Conn, to netip.AddrPort) {
	conn, err := f.ask.dial(context.Background(), to.String())
	if err != nil {
		return
	}
	join(c, conn)
}

func (f *forwards) openUDP(ctx context.Context, local, remote string) (func(context.Context) error, error) {
	to, err := endOf(remote)
	if err != nil {
		return nil, err
	}
	addr, err := net.ResolveUDPAddr("udp", local)
	if err != nil {
		return nil, err
	}
	l, err := net.ListenUDP("udp", addr)
	if err != nil {
		return nil, err
	}
	at := l.LocalAddr().(*net.UDPAddr).AddrPort()
	if !isGuests(to) {
		return func(context.Context) error { return l.Close() }, nil
	}
	if err := l.Close(); err != nil {
		return nil, err
	}
	return f.forward(ctx, "udp", at, to)
}

// forward lets vring listen.
func (f *forwards) forward(ctx context.Context, protocol string, at, to netip.AddrPort) (func(context.Context) error, error) {
	var change api.ForwardChange
	for _, a := range bothVersions(at.Addr()) {
		change.Add = append(change.Add, api.Forward{
			Proto: protocol, HostAddress: a.String(), HostPort: at.Port(), GuestAddress: to.Addr().String(), GuestPort: to.Port(),
		})
	}
	if err := f.ask.Do(ctx, http.MethodPatch, "/v1/forwards", change, nil); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		return f.ask.Do(ctx, http.MethodPatch, "/v1/forwards", api.ForwardChange{Remove: change.Add}, nil)
	}, nil
}

// bothVersions are the addresses to listen at for one: no address stands for all, of either version of IP.
func bothVersions(a netip.Addr) []netip.Addr {
	if a == netip.IPv6Unspecified() {
		return []netip.Addr{netip.IPv4Unspecified(), a}
	}
	return []netip.Addr{a.Unmap()}
}

// openUnix makes a unix socket that leads to the guest.
func (f *forwards) openUnix(_ context.Context, local, remote string) (func(context.Context) error, error) {
	uri, err := url.Parse(remote)
	if err != nil {
		return nil, fmt.Errorf("failed to parse remote uri :%s : %w", remote, err)
	}
	var dial func(ctx context.Context) (net.Conn, error)
	switch uri.Scheme {
	case "tcp":
		to, err := endOf(uri.Hostname() + ":" + uri.Port())
		if err != nil {
			return nil, err
		}
		dial = func(ctx context.Context) (net.Conn, error) { return f.ask.dial(ctx, to.String()) }
	case "ssh-tunnel":
		if err := checkTunnel(uri); err != nil {
			return nil, err
		}
		dial = func(ctx context.Context) (net.Conn, error) { return f.ssh(ctx, uri) }
	default:
		return nil, fmt.Errorf("remote protocol for unix forwarder is not implemented: %s", uri.Scheme)
	}
	l, err := listenUnix(local)
	if err != nil {
		return nil, err
	}
	go forEach(l, func(c net.Conn) {
		to, err := dial(context.Background())
		if err != nil {
			return // the client sees its connection end, as with gvproxy
		}
		join(c, to)
	})
	return func(context.Context) error { return l.Close() }, nil
}

// checkTunnel returns what is missing in a URI of ssh-tunnel.
func checkTunnel(uri *url.URL) error {
	switch {
	case uri.Query().Get("key") == "":
		return errors.New("key not provided for unix-ssh connection")
	case uri.Path == "" || uri.Path == "/":
		return errors.New("remote uri must contain a path to a socket file")
	}
	return nil
}

// listenUnix listens at a path, where a socket of before may be.
func listenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	return net.Listen("unix", path)
}

// maxClients is how many clients of one listener of this process there may be at once.
const maxClients = 1024

// forEach serves the connections of a listener until that is closed. Each is closed when serve has returned.
func forEach(l net.Listener, serve func(net.Conn)) {
	places := make(chan struct{}, maxClients)
	for {
		places <- struct{}{}
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close(); <-places }()
			serve(c)
		}()
	}
}

// join copies both ways, and passes each end on, until both have ended.
func join(a, b net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyEnd(a, b)
	}()
	copyEnd(b, a)
	<-done
	_ = b.Close()
}

func copyEnd(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = to.Close()
}

// endOf reads where a forward leads, as gvproxy does: an address of IPv4 with a port.
func endOf(text string) (netip.AddrPort, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 2 {
		return netip.AddrPort{}, errors.New("invalid remote addr")
	}
	port, err := parsePort(parts[1])
	if err != nil {
		return netip.AddrPort{}, err
	}
	a, err := netip.ParseAddr(parts[0])
	if err != nil || !a.Is4() {
		return netip.AddrPort{}, fmt.Errorf("invalid remote addr %s", parts[0])
	}
	return netip.AddrPortFrom(a, port), nil
}

// isGuests reports whether a forward of vring's may lead to an address.
func isGuests(to netip.AddrPort) bool { return to.Addr().String() == guest && to.Port() != 0 }
