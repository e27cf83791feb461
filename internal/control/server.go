package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/time/rate"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/metrics"
)

const (
	// maxBody and maxHeader bound a request, in bytes.
	maxBody, maxHeader = 256 << 10, 8 << 10
	// patience is how long a request or an answer may be under way, idlePatience how long a connection may be without either.
	patience, idlePatience = 10 * time.Second, time.Minute
)

// Config is what a Server needs.
type Config struct {
	Daemon  *daemon.Daemon
	Log     *slog.Logger
	Version string // of vring
	Source  Source
	Told    func(Told) // is called with what became of a change, on any goroutine; nil for nobody
	Events  *Events    // that clients are told of; the server adds what it changes. nil for no others
	Stop    func()     // asks the process to end, and returns at once
	Keeper  Keeper     // of what is changed; nil for none
}

// Keeper keeps what is changed in a file.
type Keeper interface {
	// Keep returns when all that was changed before is kept, or why it is not, in a limited time.
	Keep(patience time.Duration) error
	// File is the file, and why nothing is kept in it at present; nil if it is.
	File() (path string, err error)
}

// keepPatience is how long an answer waits until what was changed is kept. A client has its answer in patience.
const keepPatience = patience / 2

// notKept waits until what was changed is kept, and returns why it is not; "" if it is, or is not to be.
func (s *Server) notKept() string {
	if s.Keeper == nil {
		return ""
	}
	if err := s.Keeper.Keep(keepPatience); err != nil {
		return err.Error()
	}
	return ""
}

// Server answers requests.
type Server struct {
	Config
	conns      *connections
	streams    *streams
	connecting chan struct{} // has an element for each client that waits for a guest to accept it
	files      downloads
	page       *metrics.Page
	pace       *rate.Limiter                                                  // of changes
	apply      func(alter func(*daemon.Config) error) (daemon.Applied, error) // the daemon's; tests keep away what would leave the loopback
	http       *http.Server
}

// NewServer returns a server. Its daemon is open.
func NewServer(c Config) *Server {
	s := &Server{
		Config: c, conns: newConnections(roomy), streams: newStreams(), connecting: make(chan struct{}, maxConnecting), files: newDownloads(), page: metrics.NewPage(c.Daemon),
		pace: rate.NewLimiter(changeRate, changeBurst), apply: c.Daemon.Change,
	}
	if s.Events == nil {
		s.Events = NewEvents()
	}
	s.Events.begin(c.Daemon.Published().Guests)
	if s.Told == nil {
		s.Told = func(Told) {}
	}
	s.http = newHTTP(s.handler(), s.conns, c.Log)
	return s
}

// newHTTP returns a server with the bounds that requests, answers and connections have. It keeps conns up to date.
func newHTTP(handler http.Handler, conns *connections, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: handler, ReadTimeout: patience, WriteTimeout: patience, IdleTimeout: idlePatience, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), ConnState: conns.changed, ConnContext: withConn,
	}
}

// Serve answers the requests that come by connections of l, until that or the server is closed.
func (s *Server) Serve(l net.Listener) { _ = s.http.Serve(l) }

// Close closes all connections. Requests that are being carried out go on. Clients that follow events get the last ones, and those of
// captures the end, if they read them at once.
func (s *Server) Close() {
	wait := s.streams.any() || s.files.any()
	s.Events.close()
	s.files.end()
	if wait {
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		_ = s.http.Shutdown(ctx)
	}
	_ = s.http.Close()
}

// route is what can be asked for.
type route struct {
	method, path string
	status       int // of the answer, if all goes well
	handle       func(s *Server, r *http.Request, body []byte) (answer any, err error)
}

// routes are all that there are.
func routes() []route {
	return []route{
		{http.MethodGet, "/v1/openapi.yaml", http.StatusOK, (*Server).describe},
		{http.MethodGet, "/v1/status", http.StatusOK, (*Server).status},
		{http.MethodGet, "/v1/guests", http.StatusOK, (*Server).guests},
		{http.MethodPost, "/v1/guests", http.StatusOK, (*Server).addGuest},
		{http.MethodGet, "/v1/guests/{name}", http.StatusOK, (*Server).guest},
		{http.MethodDelete, "/v1/guests/{name}", http.StatusOK, (*Server).removeGuest},
		{http.MethodGet, "/v1/guests/{name}/flows", http.StatusOK, (*Server).flows},
		{http.MethodDelete, "/v1/guests/{name}/flows", http.StatusOK, (*Server).endFlows},
		{http.MethodGet, "/v1/guests/{name}/drops", http.StatusOK, (*Server).drops},
		{http.MethodGet, "/v1/guests/{name}/leases", http.StatusOK, (*Server).leases},
		{http.MethodGet, "/v1/guests/{name}/host-names", http.StatusOK, (*Server).hostNames},
		{http.MethodGet, "/v1/guests/{name}/uplink", http.StatusOK, (*Server).uplink},
		{http.MethodGet, "/v1/guests/{name}/resolvers", http.StatusOK, (*Server).resolvers},
		{http.MethodGet, "/v1/guests/{name}/dns-cache", http.StatusOK, (*Server).nameCache},
		{http.MethodDelete, "/v1/guests/{name}/dns-cache", http.StatusOK, (*Server).forgetNames},
		{http.MethodGet, "/v1/guests/{name}/explain", http.StatusOK, (*Server).explain},
		{http.MethodGet, "/v1/guests/{name}/learned", http.StatusOK, (*Server).learned},
		{http.MethodGet, "/v1/guests/{name}/capture", http.StatusOK, (*Server).capture},
		{http.MethodPost, "/v1/guests/{name}/connect", http.StatusSwitchingProtocols, (*Server).connect},
		{http.MethodGet, "/v1/guests/{name}/link", http.StatusOK, (*Server).link},
		{http.MethodPut, "/v1/guests/{name}/link", http.StatusOK, (*Server).setLink},
		{http.MethodGet, "/v1/guests/{name}/link/emulation", http.StatusOK, (*Server).emulation},
		{http.MethodPut, "/v1/guests/{name}/link/emulation", http.StatusOK, (*Server).setEmulation},
		{http.MethodGet, "/v1/events", http.StatusOK, (*Server).events},
		{http.MethodGet, "/v1/counters", http.StatusOK, (*Server).counters},
		{http.MethodGet, "/v1/metrics", http.StatusOK, (*Server).metrics},
		{http.MethodGet, "/v1/forwards", http.StatusOK, (*Server).forwards},
		{http.MethodPatch, "/v1/forwards", http.StatusOK, (*Server).changeForwards},
		{http.MethodPut, "/v1/forwards", http.StatusOK, (*Server).replaceForwards},
		{http.MethodGet, "/v1/guests/{name}/forwards", http.StatusOK, (*Server).forwards},
		{http.MethodPatch, "/v1/guests/{name}/forwards", http.StatusOK, (*Server).changeForwards},
		{http.MethodPut, "/v1/guests/{name}/forwards", http.StatusOK, (*Server).replaceForwards},
		{http.MethodGet, "/v1/dns-names", http.StatusOK, (*Server).dnsNames},
		{http.MethodPut, "/v1/dns-names", http.StatusOK, (*Server).replaceDNSNames},
		{http.MethodGet, "/v1/resolvers", http.StatusOK, (*Server).resolverSettings},
		{http.MethodPut, "/v1/resolvers", http.StatusOK, (*Server).replaceResolvers},
		{http.MethodGet, "/v1/policy", http.StatusOK, (*Server).policy},
		{http.MethodPut, "/v1/policy", http.StatusOK, (*Server).replacePolicy},
		{http.MethodGet, "/v1/guests/{name}/policy", http.StatusOK, (*Server).policy},
		{http.MethodPut, "/v1/guests/{name}/policy", http.StatusOK, (*Server).replacePolicy},
		{http.MethodGet, "/v1/log-level", http.StatusOK, (*Server).logLevel},
		{http.MethodPut, "/v1/log-level", http.StatusOK, (*Server).setLogLevel},
		{http.MethodGet, "/v1/audit-log", http.StatusOK, (*Server).auditLog},
		{http.MethodPut, "/v1/audit-log", http.StatusOK, (*Server).setAuditLog},
		{http.MethodPost, "/v1/audit-log/reopened", http.StatusOK, (*Server).reopenAuditLog},
		{http.MethodPost, "/v1/stop", http.StatusOK, (*Server).stop},
		{http.MethodGet, "/v1/drain", http.StatusOK, (*Server).drain},
		{http.MethodPost, "/v1/drain", http.StatusOK, (*Server).startDrain},
		{http.MethodDelete, "/v1/drain", http.StatusOK, (*Server).cancelDrain},
		{http.MethodPost, "/v1/reload", http.StatusOK, (*Server).reload},
		{http.MethodGet, "/v1/config", http.StatusOK, (*Server).config},
		{http.MethodGet, "/v1/config/diff", http.StatusOK, (*Server).configDiff},
		{http.MethodPost, "/v1/config/saved", http.StatusOK, (*Server).configSaved},
	}
}

// handler finds the route of a request. A request without one is told what there is.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	methods := map[string][]string{}
	for _, route := range routes() {
		mux.HandleFunc(route.method+" "+route.path, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, &route) })
		methods[route.path] = append(methods[route.path], route.method)
	}
	for path, allowed := range methods {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { refuseMethod(w, r, allowed) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		write(w, http.StatusNotFound, &api.Error{Text: fmt.Sprintf("there is no %q; GET /v1/openapi.yaml tells what there is", r.URL.Path)})
	})
	return mux
}

// serve reads a request, carries it out, and answers. Only in the middle of that the connection is not to be closed for others: until the
// request is whole, and when the answer is made, it is the client who is waited for.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, route *route) {
	if err := admit(r); err != nil {
		writeError(w, err)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		writeError(w, unreadBody(err))
		return
	}
	if err := checkType(r, body); err != nil {
		writeError(w, err)
		return
	}
	release := s.conns.hold(r.Context())
	answer, err := route.handle(s, r, body)
	release()
	if err != nil {
		writeError(w, err)
		return
	}
	switch answer := answer.(type) {
	case *stream:
		answer.send(w, r)
	case *download:
		answer.send(w, r)
	case *toGuest:
		answer.send(w)
	case *lastAnswer:
		write(w, route.status, answer.answer)
		_ = http.NewResponseController(w).Flush() // the connection is closed soon
		answer.then()
	default:
		write(w, route.status, answer)
	}
}

// unreadBody is why the body of a request was not read.
func unreadBody(err error) error {
	if errors.As(err, new(*http.MaxBytesError)) {
		return failed(http.StatusRequestEntityTooLarge, "the request has more than %d bytes; send less at a time", maxBody)
	}
	return failed(http.StatusBadRequest, "the request ends too early or comes too slowly: %v; send it again", err)
}

func refuseMethod(w http.ResponseWriter, r *http.Request, allowed []string) {
	for _, method := range allowed {
		w.Header().Add("Allow", method)
	}
	write(w, http.StatusMethodNotAllowed, &api.Error{Text: fmt.Sprintf("%s %s: there is no such method here; use %v", r.Method, r.URL.Path, allowed)})
}

// failure is an error with the status of HTTP that tells of it.
type failure struct {
	status int
	answer api.Error
}

func (f *failure) Error() string { return f.answer.Text }

// failed makes a failure.
func failed(status int, format string, args ...any) *failure {
	return &failure{status, api.Error{Text: fmt.Sprintf(format, args...)}}
}

// writeError answers that a request was not carried out.
func writeError(w http.ResponseWriter, err error) {
	if f := new(failure); errors.As(err, &f) {
		write(w, f.status, &f.answer)
		return
	}
	write(w, http.StatusInternalServerError, &api.Error{Text: err.Error()})
}

// write answers with a value as JSON, or with raw.
func write(w http.ResponseWriter, status int, answer any) {
	if r, ok := answer.(*raw); ok {
		w.Header().Set("Content-Type", r.kind)
		w.WriteHeader(status)
		_, _ = w.Write(r.text)
		return
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ") // for who uses curl
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(answer); err != nil {
		panic(err) // types of package api can be written
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(text.Len())) // so that it is whole, also if the process ends then
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes())
}

// connKey is that of a request's connection in its context.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}
