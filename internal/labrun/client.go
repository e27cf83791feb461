package labrun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// ErrDown is that a lab is not up.
var ErrDown = errors.New("the lab is not up")

// Apply lets the lab of a place be as a plan says. The place has a keeper.
func (p Place) Apply(ctx context.Context, plan *Plan) (*Applied, error) {
	a, err := p.ask(ctx, &request{Apply: plan})
	if err != nil {
		return nil, err
	}
	return a.Applied, nil
}

// Status returns how the lab of a place is. The error is ErrDown if there is none.
func (p Place) Status(ctx context.Context) (*Status, error) {
	a, err := p.ask(ctx, &request{Status: true})
	if err != nil {
		return nil, err
	}
	return a.Status, nil
}

// Down takes the lab of a place down, and waits until nothing is left of it. What a keeper has left that was killed is removed, too. The error is
// ErrDown if there was no lab.
func (p Place) Down(ctx context.Context) error {
	_, err := p.ask(ctx, &request{Down: true})
	if errors.Is(err, ErrDown) {
		return p.clean(ctx)
	}
	if err != nil {
		return err
	}
	return p.awaitEnd(ctx)
}

// clean removes a place without a keeper, and returns ErrDown.
func (p Place) clean(ctx context.Context) error {
	if unix.Access(p.Path, unix.F_OK) != nil {
		return ErrDown
	}
	h, err := p.Take()
	if errors.Is(err, ErrKept) {
		return p.awaitEnd(ctx)
	}
	if err != nil {
		return err
	}
	return errors.Join(h.Remove(), ErrDown)
}

// awaitEnd waits until the keeper has removed the place.
func (p Place) awaitEnd(ctx context.Context) error {
	for unix.Access(p.Path, unix.F_OK) == nil {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is still there: %w", p.Path, ctx.Err())
		case <-time.After(lookPause):
		}
	}
	return nil
}

// ask asks the keeper.
func (p Place) ask(ctx context.Context, q *request) (*answer, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", p.socket())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, ErrDown
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer stop()
	a := new(answer)
	err = json.NewEncoder(c).Encode(q)
	if err == nil {
		err = json.NewDecoder(c).Decode(a)
	}
	switch {
	case isGone(err):
		return nil, ErrDown
	case err != nil:
		return nil, errors.Join(fmt.Errorf("the keeper of the lab does not answer: %w", err), ctx.Err())
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return a, nil
}

// isGone reports whether an error is that the keeper has ended before it had accepted a client.
func isGone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}
