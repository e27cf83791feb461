package slirpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/vringnet/vring/internal/control/api"
)

const (
	// maxRequest is how long a request is at most, as slirp4netns has it, in bytes.
	maxRequest = 4095
	patience   = 10 * time.Second
	maxConns   = 64
	maxHeld    = 4096 // forwards
)

// Asker asks a vring.
type Asker interface {
	Do(ctx context.Context, method, path string, question, answer any) error
}

// Server answers requests. Forwards are numbered as they are added, from 1.
type Server struct {
	ask Asker

	mu   sync.Mutex
	last int
	held []held
}

// held is a forward that a client has added, with its number.
type held struct {
	ID int `json:"id"`
	entry
}

// entry is a forward as clients write it.
type entry struct {
	Proto     string `json:"proto"`
	HostAddr  string `json:"host_addr"`
	HostPort  uint16 `json:"host_port"`
	GuestAddr string `json:"guest_addr"`
	GuestPort uint16 `json:"guest_port"`
}

// request is what a client sends. Fields that are not known do not matter, as with slirp4netns.
type request struct {
	Execute   string          `json:"execute"`
	Arguments json.RawMessage `json:"arguments"`
}

// failure is the answer to what could not be done.
type failure struct {
	Error struct {
		Desc string `json:"desc"`
	} `json:"error"`
}

// New returns a server that has added no forwards.
func New(ask Asker) *Server { return &Server{ask: ask} }

// Serve answers at a listener until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	l = netutil.LimitListener(l, maxConns)
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			s.serve(ctx, conn)
		}()
	}
}

// serve answers the one request of a connection, whose end is that of what is sent, or that of the JSON.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	var r request
	err := json.NewDecoder(io.LimitReader(conn, maxRequest)).Decode(&r)
	var answer any
	if err != nil {
		err = errors.New("bad request: cannot parse JSON")
	} else {
		answer, err = s.execute(ctx, &r)
	}
	if err != nil {
		var f failure
		f.Error.Desc = err.Error()
		_ = json.NewEncoder(conn).Encode(f) // fails if there is nobody any more
		return
	}
	_ = json.NewEncoder(conn).Encode(map[string]any{"return": answer})
}

func (s *Server) execute(ctx context.Context, r *request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Execute {
	case "add_hostfwd":
		return s.add(ctx, r.Arguments)
	case "list_hostfwd":
		return map[string]any{"entries": append([]held{}, s.held...)}, nil
	case "remove_hostfwd":
		return s.remove(ctx, r.Arguments)
	case "":
		return nil, errors.New("bad request: no execute found")
	}
	return nil, errors.New("bad request: unknown execute")
}

func (s *Server) add(ctx context.Context, arguments json.RawMessage) (any, error) {
	var e entry
	if json.Unmarshal(arguments, &e) != nil {
		return nil, errors.New("bad request: add_hostfwd: bad arguments")
	}
	e.HostAddr = cmp.Or(e.HostAddr, "0.0.0.0")
	switch {
	case e.Proto != "tcp" && e.Proto != "udp":
		return nil, errors.New("bad request: add_hostfwd: bad arguments.proto")
	case e.HostPort == 0:
		return nil, errors.New("bad request: add_hostfwd: bad arguments.host_port")
	case e.GuestPort == 0:
		return nil, errors.New("bad request: add_hostfwd: bad arguments.guest_port")
	case len(s.held) >= maxHeld:
		return nil, errors.New("add_hostfwd: there are too many")
	}
	if err := s.change(ctx, api.ForwardChange{Add: []api.Forward{e.forward()}}); err != nil {
		return nil, errors.New("bad request: add_hostfwd: slirp_add_hostfwd failed: " + err.Error())
	}
	s.last++
	s.held = append(s.held, held{s.last, e})
	return map[string]int{"id": s.last}, nil
}

func (s *Server) remove(ctx context.Context, arguments json.RawMessage) (any, error) {
	var which struct {
		ID *int `json:"id"`
	}
	if json.Unmarshal(arguments, &which) != nil || which.ID == nil {
		return nil, errors.New("bad request: remove_hostfwd: bad arguments.id")
	}
	i := slices.IndexFunc(s.held, func(h held) bool { return h.ID == *which.ID })
	if i < 0 {
		return nil, errors.New("bad request: remove_hostfwd: bad arguments.id")
	}
	if err := s.change(ctx, api.ForwardChange{Remove: []api.Forward{s.held[i].forward()}}); err != nil {
		return nil, errors.New("bad request: remove_hostfwd: slirp_remove_hostfwd failed: " + err.Error())
	}
	s.held = slices.Delete(s.held, i, i+1)
	return struct{}{}, nil
}

func (s *Server) change(ctx context.Context, c api.ForwardChange) error {
	return s.ask.Do(ctx, http.MethodPatch, "/v1/forwards", c, nil)
}

func (e *entry) forward() api.Forward {
	return api.Forward{Proto: e.Proto, HostAddress: e.HostAddr, HostPort: e.HostPort, GuestAddress: e.GuestAddr, GuestPort: e.GuestPort}
}
