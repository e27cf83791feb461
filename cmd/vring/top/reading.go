package top

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/vringnet/vring/cmd/vring/flowlist"
	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
)

const (
	// patience bounds how long an answer is waited for.
	patience = 10 * time.Second
	// mostFlows is how many flows are asked for. More are told of by a plus.
	mostFlows = 2000
)

// reading is what a vring has answered.
type reading struct {
	at       time.Time
	status   api.Status
	counters []api.Counters
	forwards []api.Forward
	guest    string // whose flows these are
	flows    flowlist.List
	more     bool // it has more flows
}

// guests returns the names of the guests.
func (r *reading) guests() (names []string) {
	for i := range r.status.Guests {
		names = append(names, r.status.Guests[i].Name)
	}
	return names
}

// read asks for everything, and for the flows of a guest; "" is the first.
func read(ctx context.Context, client *control.Client, guest string) (*reading, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r := &reading{}
	for path, answer := range map[string]any{"/v1/status": &r.status, "/v1/counters": &r.counters} {
		if err := client.Do(ctx, http.MethodGet, path, nil, answer); err != nil {
			return nil, err
		}
	}
	r.at = time.Now()
	if err := known(client.Do(ctx, http.MethodGet, "/v1/forwards", nil, &r.forwards)); err != nil {
		return nil, err
	}
	return r, r.readFlows(ctx, client, guest)
}

// readFlows asks for the flows of a guest, if there are such.
func (r *reading) readFlows(ctx context.Context, client *control.Client, guest string) error {
	if guest == "" && len(r.status.Guests) > 0 {
		guest = r.status.Guests[0].Name
	}
	if guest == "" {
		return nil
	}
	var answer api.Flows
	err := client.Do(ctx, http.MethodGet, control.GuestPath(guest, "flows", url.Values{"limit": {strconv.Itoa(mostFlows)}}), nil, &answer)
	r.guest, r.more = guest, answer.More
	r.flows.Add(guest, answer.Flows)
	r.flows.At = time.Now()
	return known(err)
}

// known returns err unless it is that a guest, or this vring, has no such thing: it is not behind NAT.
func known(err error) error {
	refused := new(control.RefusedError)
	if errors.As(err, &refused) && (refused.Status == http.StatusUnprocessableEntity || refused.Status == http.StatusNotFound) {
		return nil
	}
	return err
}

// end ends one flow, and returns how many that were.
func end(ctx context.Context, client *control.Client, f *flowlist.Flow) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	q, err := choiceOf(f)
	if err != nil {
		return 0, err
	}
	var answer api.Ended
	err = client.Do(ctx, http.MethodDelete, control.GuestPath(f.Guest, "flows", q), nil, &answer)
	return answer.Ended, err
}
