package gvproxy

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
)

const (
	patience, idlePatience = 10 * time.Second, 10 * time.Minute
	maxHeader, maxBody     = 16 << 10, 256 << 10
	maxConns               = 256
)

// Server answers requests of gvproxy's API for one guest.
type Server struct {
	client   client
	forwards forwards
	log      *slog.Logger

	mu    sync.Mutex
	zones []zone
}

// client asks vring at its control socket.
type client struct{ *control.Client }

func (c client) dial(ctx context.Context, to string) (net.Conn, error) {
	conn, err := c.Connect(ctx, guest, to)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// NewServer returns a server that asks the vring at a control socket, which serves a guest with the options of command.
func NewServer(command *Command, controlSocket string, log *slog.Logger) *Server {
	s := &Server{client: client{control.NewClient(controlSocket)}, log: log, zones: usualZones()}
	s.forwards.ask, s.forwards.ssh = s.client, newSSH(s.client).dial
	s.forwards.all = []proxy{s.sshPort(command.SSHPort)}
	return s
}

// sshPort is the forward that vring has from the start.
func (s *Server) sshPort(port int) proxy {
	f := api.Forward{HostPort: uint16(port), GuestAddress: guest, GuestPort: 22}
	return proxy{Local: fmt.Sprintf("127.0.0.1:%d", port), Remote: guest + ":22", Protocol: "tcp", close: func(ctx context.Context) error {
		return s.client.Do(ctx, http.MethodPatch, "/v1/forwards", api.ForwardChange{Remove: []api.Forward{f}}, nil)
	}}
}

// Forward makes a forward over SSH of the command line.
func (s *Server) Forward(ctx context.Context, f SSHForward) error {
	uri := url.URL{Scheme: "ssh-tunnel", User: url.User(f.User), Host: guest + ":22", Path: f.Dest, RawQuery: url.Values{"key": {f.Identity}}.Encode()}
	return s.forwards.expose(ctx, "unix", f.Socket, uri.String())
}

// Close closes what this process has opened for forwards.
func (s *Server) Close() {
	s.forwards.closeAll()
	s.client.Close()
}

// Serve answers at a listener until ctx ends. ofGuest says that clients are the guest's programs.
func (s *Server) Serve(ctx context.Context, l net.Listener, ofGuest bool) error {
	handler := s.handler()
	if ofGuest {
		inner := handler
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.RemoteAddr = net.JoinHostPort(guest, "0") // a remote end without an address is the caller's
			inner.ServeHTTP(w, r)
		})
	}
	server := &http.Server{
		Handler: handler, ReadTimeout: patience, IdleTimeout: idlePatience, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.Serve(netutil.LimitListener(l, maxConns))
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// handler has all that can be asked for.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/services/forwarder/all", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.forwards.list()) })
	mux.HandleFunc("/services/forwarder/expose", s.expose)
	mux.HandleFunc("/services/forwarder/unexpose", s.unexpose)
	mux.HandleFunc("/services/dns/all", s.allZones)
	mux.HandleFunc("/services/dns/add", s.addZone)
	mux.HandleFunc("/services/dhcp/leases", s.leases)
	mux.HandleFunc("/leases", s.leases)
	mux.HandleFunc("/cam", s.cam)
	mux.HandleFunc("/stats", s.stats)
	mux.HandleFunc("/tunnel", s.tunnel)
	return mux
}

// answer answers as JSON. gvproxy leaves the type of it to be guessed.
func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_ = json.NewEncoder(w).Encode(v) // fails if there is nobody any more
}

// read reads the body of a request that must be a POST, and reports whether it is right. If not, it has answered.
func read(w http.ResponseWriter, r *http.Request, to any) bool {
	if r.Method != http.MethodPost {
		http.Error(w, "post only", http.StatusBadRequest)
		return false
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(to); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

// ExposeRequest is the body of expose, and UnexposeRequest that of unexpose. Their names are in errors that clients get.
type (
	ExposeRequest struct {
		Local    string `json:"local"`
		Remote   string `json:"remote"`
		Protocol string `json:"protocol"` // TCP if nothing is said
	}
	UnexposeRequest struct {
		Local    string `json:"local"`
		Protocol string `json:"protocol"`
	}
)

func (s *Server) expose(w http.ResponseWriter, r *http.Request) {
	var q ExposeRequest
	if !read(w, r, &q) {
		return
	}
	protocol, remote := cmp.Or(q.Protocol, "tcp"), q.Remote
	if protocol != "unix" && protocol != "npipe" {
		var err error
		if remote, err = remoteOf(q.Remote, r.RemoteAddr); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	if err := s.forwards.expose(r.Context(), protocol, q.Local, remote); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// remoteOf is where a forward leads: to the caller, if there is no address.
func remoteOf(remote, caller string) (string, error) {
	addr, _, err := net.SplitHostPort(remote)
	if err != nil || addr != "" {
		return remote, err
	}
	own, _, err := net.SplitHostPort(caller)
	return own + remote, err
}

func (s *Server) unexpose(w http.ResponseWriter, r *http.Request) {
	var q UnexposeRequest
	if !read(w, r, &q) {
		return
	}
	if err := s.forwards.unexpose(r.Context(), cmp.Or(q.Protocol, "tcp"), q.Local); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (s *Server) allZones(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer(w, s.zones)
}

func (s *Server) addZone(w http.ResponseWriter, r *http.Request) {
	var z zone
	if !read(w, r, &z) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	zones := added(s.zones, z)
	names := api.Names{Names: []string{}}
	for i := range zones {
		names.Names = append(names.Names, zones[i].names()...)
	}
	if err := s.client.Do(r.Context(), http.MethodPut, "/v1/dns-names", names, nil); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.zones = zones
}

// known are the addresses that hosts of the network have, and their MAC addresses.
func (s *Server) known(ctx context.Context) (map[string]string, error) {
	var leases []api.Lease
	err := s.client.Do(ctx, http.MethodGet, control.GuestPath(guest, "leases", nil), nil, &leases)
	all := map[string]string{gateway: gatewayMAC, guest: guestMAC}
	for _, l := range leases {
		all[l.Address] = l.MAC
	}
	return all, err
}

func (s *Server) leases(w http.ResponseWriter, r *http.Request) {
	all, err := s.known(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, all)
}

// cam tells who is at which port of gvproxy's switch. Here all are at the first one.
func (s *Server) cam(w http.ResponseWriter, r *http.Request) {
	var leases []api.Lease
	if err := s.client.Do(r.Context(), http.MethodGet, control.GuestPath(guest, "leases", nil), nil, &leases); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	ports := map[string]int{}
	for _, l := range leases {
		if !l.Fixed {
			ports[l.MAC] = 0
		}
	}
	answer(w, ports)
}

// stats tells what gvproxy tells that vring counts as well, and all of vring's own counters.
func (s *Server) stats(w http.ResponseWriter, r *http.Request) {
	var g api.Guest
	var counters []api.Counters
	err := s.client.Do(r.Context(), http.MethodGet, control.GuestPath(guest, "", nil), nil, &g)
	if err == nil {
		err = s.client.Do(r.Context(), http.MethodGet, "/v1/counters", nil, &counters)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var sent, received uint64
	for _, p := range g.Pairs {
		sent, received = sent+p.ToGuestBytes, received+p.FromGuestBytes
	}
	own := map[string]uint64{}
	for _, c := range counters {
		for name, n := range c.Counters {
			own[name] += n
		}
	}
	answer(w, map[string]any{"BytesSent": sent, "BytesReceived": received, "Vring": own})
}

// tunnel connects the client to a port of the guest.
func (s *Server) tunnel(w http.ResponseWriter, r *http.Request) {
	ip := r.URL.Query().Get("ip")
	if ip == "" {
		http.Error(w, "ip is mandatory", http.StatusInternalServerError)
		return
	}
	port, err := strconv.Atoi(r.URL.Query().Get("port"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		http.Error(w, "webserver doesn't support hijacking", http.StatusInternalServerError)
		return
	}
	conn, buffered, err := hijacker.Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Time{})
	if _, err := conn.Write([]byte("OK")); err != nil {
		return
	}
	to, err := s.client.dial(context.Background(), net.JoinHostPort(ip, strconv.Itoa(port)))
	if err != nil {
		s.log.Error("cannot dial", "err", err)
		return
	}
	begun, _ := buffered.Reader.Peek(buffered.Reader.Buffered()) // what the client did not wait with
	if _, err := to.Write(begun); err != nil {
		_ = to.Close()
		return
	}
	join(conn, to)
}

// parsePort reads a port, with the errors that gvproxy has.
func parsePort(text string) (uint16, error) {
	n, err := strconv.Atoi(text)
	if err == nil && (n < 0 || n > 65535) { // gvproxy 0.8 takes it modulo 65536
		err = &strconv.NumError{Func: "ParseUint", Num: text, Err: strconv.ErrRange}
	}
	return uint16(n), err
}

// Listen opens what the API is answered at.
func (c *Command) Listen(ctx context.Context) (all []net.Listener, err error) {
	for _, text := range c.Endpoint {
		kind, address, err := splitEndpoint(text)
		if err != nil {
			return nil, err
		}
		var l net.Listener
		if kind == "unix" {
			l, err = listenUnix(address)
		} else {
			l, err = new(net.ListenConfig).Listen(ctx, kind, address)
		}
		if err != nil {
			for _, l := range all {
				_ = l.Close()
			}
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}
