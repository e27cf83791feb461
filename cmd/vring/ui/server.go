package ui

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"mime"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"github.com/vringnet/vring/internal/control/api"
)

const (
	// patience bounds how long a request's head may take, idlePatience how long a connection may be without a request.
	patience, idlePatience = 10 * time.Second, time.Minute
	// maxHeader and maxBody bound a request, in bytes.
	maxHeader, maxBody = 16 << 10, 256 << 10
	// maxConns is how many connections there may be at once. A browser has six, and some for events and captures.
	maxConns = 64
)

//go:embed page
var files embed.FS

// Server serves the page of one vring.
type Server struct {
	token    string
	cookie   string // name of the cookie that holds the token: cookies are those of all ports of a host
	api      http.Handler
	files    http.Handler
	http     *http.Server
	listener net.Listener
}

// NewToken returns a token that nobody can guess.
func NewToken() string { return rand.Text() }

// New returns a server on a listener of the loopback, which it takes over, for the vring whose control socket is at a path. Who has the
// token may use the page.
func New(l net.Listener, control, token string) (*Server, error) {
	page, err := fs.Sub(files, "page")
	if err != nil {
		return nil, err
	}
	s := &Server{
		token: token, cookie: fmt.Sprint("vring-", l.Addr().(*net.TCPAddr).Port), api: newProxy(control), files: http.FileServerFS(page),
		listener: netutil.LimitListener(l, maxConns),
	}
	s.http = &http.Server{
		Handler: s, ReadHeaderTimeout: patience, IdleTimeout: idlePatience, MaxHeaderBytes: maxHeader, ErrorLog: log.New(noLog{}, "", 0),
	}
	return s, nil
}

// noLog is a log that nobody reads: what goes wrong with one browser is told to that browser.
type noLog struct{}

func (noLog) Write(p []byte) (int, error) { return len(p), nil }

// newProxy passes requests on to a control socket.
func newProxy(control string) http.Handler {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", control)
	}
	return &httputil.ReverseProxy{
		Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 4, ResponseHeaderTimeout: time.Minute},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", "vring", "vring"
			kind := r.In.Header.Get("Content-Type")
			r.Out.Header = http.Header{} // what the browser says of itself and of the page is not for vring
			if kind != "" {
				r.Out.Header.Set("Content-Type", kind)
			}
		},
		ModifyResponse: nameCapture,
		FlushInterval:  -1, // events and captures go on for long
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if long := new(http.MaxBytesError); errors.As(err, &long) {
				refuse(w, http.StatusRequestEntityTooLarge, "the body of the request has more than %d bytes", long.Limit)
				return
			}
			refuse(w, http.StatusBadGateway, "the control socket %s does not answer: %v", control, err)
		},
		ErrorLog: log.New(noLog{}, "", 0),
	}
}

// nameCapture gives what a browser downloads the name of the guest.
func nameCapture(r *http.Response) error {
	path := strings.Split(r.Request.URL.Path, "/") // "", v1, guests, its name, capture
	if r.StatusCode == http.StatusOK && path[len(path)-1] == "capture" {
		name := mime.FormatMediaType("attachment", map[string]string{"filename": strings.Join(path[3:len(path)-1], "-") + ".pcapng"})
		r.Header.Set("Content-Disposition", name)
	}
	return nil
}

// URL is where the page is, for the user alone: it has the token.
func (s *Server) URL() string { return URL(s.listener.Addr().String(), s.token) }

// URL is where the page at an address is for who has the token.
func URL(address, token string) string { return "http://" + address + "/?token=" + token }

// Serve answers until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = s.http.Close() })()
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if err := s.admit(r); err != nil {
		refuse(w, http.StatusForbidden, "%v", err)
		return
	}
	if token := r.URL.Query().Get("token"); r.URL.Path == "/" && token != "" {
		s.login(w, token)
		return
	}
	if !s.known(r) {
		refuse(w, http.StatusUnauthorized, "open the address that vring has printed, with its token")
		return
	}
	switch {
	case allowed(r.Method, r.URL.Path):
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		s.api.ServeHTTP(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		refuse(w, http.StatusMethodNotAllowed, "the page has no %s %s; vring ctl may have a verb for it", r.Method, r.URL.Path)
	default:
		s.files.ServeHTTP(w, r)
	}
}

// refuse answers with an error in the form of the control socket's.
func refuse(w http.ResponseWriter, status int, format string, args ...any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(api.Error{Text: fmt.Sprintf(format, args...)}) // else the browser has gone
}
