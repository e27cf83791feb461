package traffic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Run is the client's end of one run.
func Run(ctx context.Context, server netip.AddrPort, p Plan, m Meter) (Counts, error) {
	control, err := dial(unix.SOCK_STREAM, server)
	if err != nil {
		return Counts{}, err
	}
	defer control.Close()
	defer control.endWith(ctx)()
	if err := errors.Join(control.greet(), control.greeted()); err != nil {
		return Counts{}, fmt.Errorf("the server does not begin: %w", err)
	}
	if err := m.Begin(); err != nil {
		return Counts{}, err
	}
	counts, end, err := p.Test.ask(ctx, &peer{server, control}, p)
	if err := cmp.Or(ctx.Err(), err); err != nil {
		return counts, err
	}
	return counts, m.End(end)
}

// greet sends the byte with which an end begins. From then on small segments leave at once, as in a program that asks and
// waits for answers.
func (s *socket) greet() error {
	if err := s.noDelay(); err != nil {
		return err
	}
	_, err := s.Write([]byte{0})
	return err
}

// greeted waits for the other end's byte.
func (s *socket) greeted() error {
	_, err := io.ReadFull(s, make([]byte, 1))
	return err
}

// peer is the server as the client sees it.
type peer struct {
	address netip.AddrPort
	control *socket
}

// finish tells the server that all is sent, and waits until it has all.
func (p *peer) finish() error {
	if err := p.control.CloseWrite(); err != nil {
		return err
	}
	return awaitEnd(p.control)
}

// awaitEnd waits until the other end closes.
func awaitEnd(r io.Reader) error {
	switch n, err := r.Read(make([]byte, 1)); {
	case err == io.EOF:
		return nil
	case err != nil:
		return err
	default:
		return fmt.Errorf("the other end has sent %d bytes too many", n)
	}
}
