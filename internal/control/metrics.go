package control

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/time/rate"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/metrics"
)

// metrics is the page that Prometheus reads.
func (s *Server) metrics(*http.Request, []byte) (any, error) {
	text, err := s.page.Text()
	return &raw{metrics.ContentType, text}, err
}

// MetricsPath is that of the only page of a MetricsServer.
const MetricsPath = "/metrics"

const (
	// maxMetrics is how many connections may wait for their clients. For one more, the one that has waited longest is closed.
	maxMetrics = 16
	// acceptRate is how many connections are accepted in a second, after acceptBurst at once, and pageRate and pageBurst how many pages
	// are made. Others wait.
	acceptRate, acceptBurst = 200, 100
	pageRate, pageBurst     = 10, 20
)

// MetricsServer answers GET MetricsPath at a daemon's address for metrics, to anybody who reaches that. It answers nothing else. It has the
// bounds of a Server, and makes so many pages in a second, one at a time.
type MetricsServer struct {
	page     *metrics.Page
	listener *pacedListener
	loopback bool // the listener is reached by this host alone
	conns    *connections
	pace     *rate.Limiter
	making   sync.Mutex
	http     *http.Server
}

// NewMetricsServer returns a server for a daemon that is open and has an address for metrics.
func NewMetricsServer(d *daemon.Daemon, log *slog.Logger) *MetricsServer {
	l := d.Metrics()
	at, _ := l.Addr().(*net.TCPAddr)
	s := &MetricsServer{
		page: metrics.NewPage(d), listener: newPacedListener(l), loopback: at != nil && at.IP.IsLoopback(),
		conns: newConnections(maxMetrics), pace: rate.NewLimiter(pageRate, pageBurst),
	}
	s.http = newHTTP(s, s.conns, log)
	return s
}

// Serve answers until the daemon's listener or the server is closed.
func (s *MetricsServer) Serve() { _ = s.http.Serve(s.listener) }

// Close closes the listener and all connections.
func (s *MetricsServer) Close() {
	s.listener.cancel()
	_ = s.http.Close()
}

// ServeHTTP implements http.Handler.
func (s *MetricsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case s.loopback && !namedByAddress(r.Host):
		http.Error(w, fmt.Sprintf("this page is not that of %q; ask for it by the address at which vring listens", r.Host), http.StatusForbidden)
	case r.URL.Path != MetricsPath:
		http.Error(w, fmt.Sprintf("there is no %q; there is %s", r.URL.Path, MetricsPath), http.StatusNotFound)
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, fmt.Sprintf("there is no %s here; use GET", r.Method), http.StatusMethodNotAllowed)
	default:
		s.write(w, r)
	}
}

// namedByAddress reports whether a request names this host by an address, or as localhost. A page of the web that a browser of this host
// shows may have the browser look up its own name, find the loopback, and ask there; it would send that name.
func namedByAddress(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || strings.EqualFold(host, "localhost")
}

// write answers with the page.
func (s *MetricsServer) write(w http.ResponseWriter, r *http.Request) {
	if s.pace.Wait(r.Context()) != nil {
		return // the client has gone
	}
	text, err := s.make(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", metrics.ContentType)
	_, _ = w.Write(text)
}

// make makes the page. Meanwhile the connection of its client is not closed for another one.
func (s *MetricsServer) make(ctx context.Context) ([]byte, error) {
	s.making.Lock()
	defer s.making.Unlock()
	defer s.conns.hold(ctx)()
	return s.page.Text()
}

// pacedListener accepts so many connections in a second. Others wait in the kernel.
type pacedListener struct {
	net.Listener
	pace   *rate.Limiter
	ctx    context.Context
	cancel context.CancelFunc
}

func newPacedListener(l net.Listener) *pacedListener {
	p := &pacedListener{Listener: l, pace: rate.NewLimiter(acceptRate, acceptBurst)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Accept implements net.Listener.
func (p *pacedListener) Accept() (net.Conn, error) {
	if p.pace.Wait(p.ctx) != nil {
		return nil, net.ErrClosed
	}
	return p.Listener.Accept()
}
