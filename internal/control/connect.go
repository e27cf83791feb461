package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
)

// maxConnecting is how many clients can wait at once for guests to accept them. Those that are connected are no connections of the server any more.
const maxConnecting = 16

// upgradeProtocol is what a client asks for who wants to be connected to a guest.
const upgradeProtocol = "tcp"

// upgraded is what a client is answered whom a guest has accepted. What follows is the guest's.
const upgraded = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + upgradeProtocol + "\r\n\r\n"

// connect connects the client to a guest.
func (s *Server) connect(r *http.Request, body []byte) (any, error) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), upgradeProtocol) || !strings.EqualFold(r.Header.Get("Connection"), "Upgrade") || r.ProtoMajor != 1 {
		return nil, failed(http.StatusUpgradeRequired, "the connection becomes one to the guest: send Connection: Upgrade and Upgrade: %s", upgradeProtocol)
	}
	if len(body) > 0 || r.ContentLength != 0 {
		return nil, unread("it must be empty: what is the guest's follows the answer")
	}
	to, err := ParseGuestPort(r.URL.Query().Get("to"))
	if err != nil {
		return nil, failed(http.StatusBadRequest, "to: %v", err)
	}
	if err := s.checkGuest(r.PathValue("name")); err != nil {
		return nil, err
	}
	return &toGuest{s, r.PathValue("name"), to}, nil
}

// GuestPortForm is the form of a port of a guest, or of a host behind its card.
const GuestPortForm = "[ADDRESS:]PORT"

// ParseGuestPort reads a port of a guest: GuestPortForm. Without an address that of the result is not valid.
func ParseGuestPort(text string) (netip.AddrPort, error) {
	if port, err := strconv.ParseUint(text, 10, 16); err == nil && port > 0 {
		return netip.AddrPortFrom(netip.Addr{}, uint16(port)), nil
	}
	if at, err := netip.ParseAddrPort(text); err == nil && at.Port() > 0 && at.Addr().Zone() == "" {
		return at, nil
	}
	return netip.AddrPort{}, fmt.Errorf("%q: want %s, as in 22, 10.0.2.15:22 or [fd00:10:0:2::15]:22", cut(text), GuestPortForm)
}

// toGuest is the answer that makes its connection one to a guest.
type toGuest struct {
	server *Server
	guest  string
	to     netip.AddrPort
}

// send connects the client, or tells why it is not.
func (c *toGuest) send(w http.ResponseWriter) {
	s := c.server
	select {
	case s.connecting <- struct{}{}:
		defer func() { <-s.connecting }()
	default:
		writeError(w, failed(http.StatusTooManyRequests, "%d clients wait for guests to accept them, and there are no more at a time; try again", maxConnecting))
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		writeError(w, err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Time{})
	err = c.pass(conn, buffered.Reader.Buffered())
	if err != nil {
		_ = conn.SetDeadline(time.Now().Add(patience))
		writeError(&rawAnswer{conn: conn, header: http.Header{}}, err)
		return
	}
	s.Log.Info("client connected to the guest on demand", "guest", c.guest, "port", c.to.Port(), "address", c.addressText())
}

// addressText is the address that the client has asked for, as a log has it.
func (c *toGuest) addressText() string {
	if a := c.to.Addr(); a.IsValid() {
		return a.String()
	}
	return "the guest's"
}

// pass passes the client on to the guest. early is how many bytes of it were read with the request.
func (c *toGuest) pass(conn net.Conn, early int) error {
	raw, ok := conn.(syscall.Conn)
	if !ok || early > 0 {
		return failed(http.StatusBadRequest, "%d bytes follow the request; send what is the guest's after the answer", early)
	}
	err := c.server.Daemon.Connect(c.server.files.closing, c.guest, c.to, &daemon.Client{Conn: raw, UnixSocket: true, Greeting: []byte(upgraded)})
	if errors.Is(err, context.Canceled) {
		return failed(http.StatusServiceUnavailable, "this vring ends")
	}
	return connectFailure(err)
}

// connectFailure is why a client was not connected to a guest; nil for nil.
func connectFailure(err error) error {
	if err == nil {
		return nil
	}
	status, refused := http.StatusServiceUnavailable, new(daemon.ConnectError)
	if !errors.As(err, &refused) {
		return flowFailure(err)
	}
	switch refused.Kind {
	case daemon.BadDestination:
		status = http.StatusUnprocessableEntity
	case daemon.ConnectRefused, daemon.AddressUnreachable:
		status = http.StatusBadGateway
	case daemon.GuestSilent, daemon.AddressUnused:
		status = http.StatusGatewayTimeout
	}
	return &failure{status, api.Error{Text: refused.Error()}}
}

// rawAnswer writes an answer to a connection that package http has let go of.
type rawAnswer struct {
	conn   net.Conn
	header http.Header
}

// Header implements http.ResponseWriter.
func (a *rawAnswer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *rawAnswer) WriteHeader(status int) {
	a.header.Set("Connection", "close")
	_, _ = fmt.Fprintf(a.conn, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	_ = a.header.Write(a.conn)
	_, _ = a.conn.Write([]byte("\r\n"))
}

// Write implements http.ResponseWriter.
func (a *rawAnswer) Write(text []byte) (int, error) { return a.conn.Write(text) }
