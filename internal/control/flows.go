package control

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// usualFlows is how many flows are told if nobody says how many, and maxFlows how many at most: a guest has no more.
const usualFlows, maxFlows = 1000, 65536

func (s *Server) flows(r *http.Request, _ []byte) (any, error) {
	q, err := parseFlowQuery(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	flows, more, err := s.Daemon.Flows(ctx, r.PathValue("name"), &q.filter, q.limit)
	if err != nil {
		return nil, flowFailure(err)
	}
	answer := &api.Flows{Flows: []api.Flow{}, More: more}
	for i := range flows {
		answer.Flows = append(answer.Flows, flowOf(&flows[i]))
	}
	return answer, nil
}

func (s *Server) endFlows(r *http.Request, _ []byte) (any, error) {
	q, err := parseFlowQuery(r.URL.RawQuery)
	switch {
	case err != nil:
		return nil, err
	case q.has("limit"):
		return nil, failed(http.StatusBadRequest, "limit: it is about flows that are told; all that are chosen end")
	case q.all && !q.filter.IsZero():
		return nil, failed(http.StatusBadRequest, "all=true and a choice exclude each other; leave one of them out")
	case !q.all && q.filter.IsZero():
		return nil, failed(http.StatusBadRequest, "no flows are chosen; say which ones by %q, or all=true for all", flowParameters())
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	ended, err := s.Daemon.EndFlows(ctx, r.PathValue("name"), &q.filter)
	if err != nil {
		return nil, flowFailure(err)
	}
	s.Log.Info("flows ended on demand", "guest", r.PathValue("name"), "which", r.URL.RawQuery, "flows", ended)
	return &api.Ended{Ended: ended}, nil
}

// flowFailure is why flows could not be looked at.
func flowFailure(err error) error {
	switch {
	case errors.As(err, new(*daemon.NoGuestError)):
		return failed(http.StatusNotFound, "%v", err)
	case errors.As(err, new(*daemon.NoFlowsError)):
		return failed(http.StatusUnprocessableEntity, "%v", err)
	}
	return failed(http.StatusServiceUnavailable, "%v; try again", err)
}

// flowQuery says which flows are meant.
type flowQuery struct {
	filter nat.FlowFilter
	limit  int
	all    bool
	values url.Values
}

func (q *flowQuery) has(name string) bool { return q.values.Has(name) }

// flowParameter reads a parameter of a query about flows.
type flowParameter struct {
	name string
	read func(q *flowQuery, text string) error
}

// flowChoices are those that choose flows.
var flowChoices = []flowParameter{
	{"proto", func(q *flowQuery, text string) (err error) { return q.readProto(text) }},
	{"direction", func(q *flowQuery, text string) error { return q.readDirection(text) }},
	{"guest-address", func(q *flowQuery, text string) (err error) {
		q.filter.Guest, err = netip.ParseAddr(text)
		return err
	}},
	{"guest-port", func(q *flowQuery, text string) error { return q.readGuestPort(text) }},
	{"remote", func(q *flowQuery, text string) (err error) {
		q.filter.Remote, err = spec.ParseDestination(text)
		return err
	}},
	{"state", func(q *flowQuery, text string) error {
		q.filter.State = text
		return q.filter.Check()
	}},
}

// flowBounds are those that say how many.
var flowBounds = []flowParameter{
	{"limit", func(q *flowQuery, text string) (err error) {
		q.limit, err = strconv.Atoi(text)
		if err == nil && (q.limit < 1 || q.limit > maxFlows) {
			err = errors.New("want 1 to " + strconv.Itoa(maxFlows))
		}
		return err
	}},
	{"all", func(q *flowQuery, text string) (err error) {
		q.all, err = strconv.ParseBool(text)
		return err
	}},
}

// flowParameters are the names of those that choose flows.
func flowParameters() (names []string) {
	for i := range flowChoices {
		names = append(names, flowChoices[i].name)
	}
	return names
}

// parseFlowQuery reads which flows are meant. The error is a failure.
func parseFlowQuery(raw string) (*flowQuery, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, failed(http.StatusBadRequest, "%q: %v", cut(raw), err)
	}
	q := &flowQuery{limit: usualFlows, values: values}
	known := slices.Concat(flowChoices, flowBounds)
	for name, all := range values {
		i := slices.IndexFunc(known, func(p flowParameter) bool { return p.name == name })
		switch {
		case i < 0:
			return nil, failed(http.StatusBadRequest, "there is no %q; there are %q, limit and all", cut(name), flowParameters())
		case len(all) > 1:
			return nil, failed(http.StatusBadRequest, "%s is there %d times; write it once", name, len(all))
		}
		if err := known[i].read(q, all[0]); err != nil {
			return nil, failed(http.StatusBadRequest, "%s %q: %v", name, all[0], err)
		}
	}
	return q, nil
}

func (q *flowQuery) readProto(text string) error {
	proto, ok := spec.ParseProto(text)
	if !ok {
		return errors.New("want tcp, udp or icmp")
	}
	q.filter.Proto = proto
	return nil
}

func (q *flowQuery) readDirection(text string) error {
	inbound := text == "in"
	if !inbound && text != "out" {
		return errors.New("want in, for what the host began by a forward, or out")
	}
	q.filter.Inbound = &inbound
	return nil
}

func (q *flowQuery) readGuestPort(text string) error {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return errors.New("want a port from 1 to 65535")
	}
	q.filter.GuestPort = uint16(port)
	return nil
}

// flowOf is a flow as programs read it.
func flowOf(f *nat.FlowInfo) api.Flow {
	flow := api.Flow{
		Proto: f.ProtoName(), Inbound: f.Inbound, By: string(f.By), Guest: f.Guest.String(), Remote: f.Remote.String(), Host: f.Path, Target: nameOfEnd(f.Target), State: f.State,
		FromGuest: f.FromGuest, ToGuest: f.ToGuest, AgeMillis: f.Age.Milliseconds(),
	}
	if flow.Host == "" {
		flow.Host = nameOfEnd(f.Host)
	}
	return flow
}
