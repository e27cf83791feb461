package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
)

// served is a page of a control socket that tells what it was asked.
type served struct {
	*Server
	t     *testing.T
	asked chan *http.Request
}

func serve(t *testing.T) *served {
	dir, err := os.MkdirTemp("", "vr")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	path := filepath.Join(dir, "ctl")
	socket, err := net.Listen("unix", path)
	require.NoError(t, err)
	asked := make(chan *http.Request, 100)
	control := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		asked <- r
		_, _ = fmt.Fprintf(w, `{"path": %q}`, r.URL.RequestURI())
	})}
	go func() { _ = control.Serve(socket) }()
	t.Cleanup(func() { _ = control.Close() })

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s, err := New(l, path, NewToken())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return &served{s, t, asked}
}

func (s *served) host() string { return s.listener.Addr().String() }

// browser is a client that has the token.
func (s *served) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	require.NoError(s.t, err)
	b := &http.Client{Jar: jar, Timeout: time.Minute}
	response, err := b.Get(s.URL())
	require.NoError(s.t, err)
	defer response.Body.Close()
	require.Equal(s.t, http.StatusOK, response.StatusCode)
	require.Equal(s.t, "http://"+s.host()+"/", response.Request.URL.String(), "the token is in no address that is remembered")
	return b
}

// ask makes a request with fields, and returns the answer.
func (s *served) ask(c *http.Client, method, path string, fields map[string]string) (status int, body string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.host()+path, strings.NewReader("{}"))
	require.NoError(s.t, err)
	for name, value := range fields {
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
	}
	response, err := c.Do(r)
	require.NoError(s.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	for _, name := range []string{"Content-Security-Policy", "X-Frame-Options", "Cross-Origin-Resource-Policy"} {
		require.Len(s.t, response.Header.Values(name), 1, "%s %s: %s", method, path, name)
	}
	return response.StatusCode, string(text)
}

func TestThePageAsksTheControlSocket(t *testing.T) {
	s := serve(t)
	b := s.browser()
	for _, file := range []string{"/", "/page.js", "/page.css"} {
		status, body := s.ask(b, "GET", file, nil)
		require.Equal(t, http.StatusOK, status)
		require.NotRegexp(t, `(?:src|href|url)\W{1,3}(?:https?:)?//`, body, "nothing is loaded from elsewhere")
	}
	same := map[string]string{"Origin": "http://" + s.host(), "Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
	for _, ask := range [][2]string{
		{"GET", "/v1/status"}, {"GET", "/v1/guests/tap%2F0/flows?limit=5"}, {"PATCH", "/v1/forwards"}, {"PATCH", "/v1/guests/db/forwards"}, {"PUT", "/v1/policy"},
		{"DELETE", "/v1/guests/10.0.2.15/flows?proto=tcp"},
	} {
		status, body := s.ask(b, ask[0], ask[1], same)
		require.Equal(t, http.StatusOK, status, body)
		r := <-s.asked
		require.Equal(t, ask[0], r.Method)
		require.Equal(t, ask[1], r.URL.RequestURI())
		require.Equal(t, "vring", r.Host)
		require.Equal(t, "application/json", r.Header.Get("Content-Type"))
		for _, name := range []string{"Cookie", "Origin", "Sec-Fetch-Site", "X-Forwarded-For", "Referer"} {
			require.Empty(t, r.Header.Get(name), name)
		}
	}
}

func TestRequestsThatAreNotThePagesAreRefused(t *testing.T) {
	s := serve(t)
	b, stranger := s.browser(), &http.Client{Timeout: time.Minute}
	stranger.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	origin := "http://" + s.host()
	for name, c := range map[string]struct {
		client       *http.Client
		method, path string
		fields       map[string]string
		status       int
	}{
		"without the token":               {stranger, "GET", "/v1/status", nil, http.StatusUnauthorized},
		"the page without the token":      {stranger, "GET", "/", nil, http.StatusUnauthorized},
		"another token":                   {stranger, "GET", "/?token=" + strings.Repeat("A", 26), nil, http.StatusUnauthorized},
		"another token in the cookie":     {stranger, "GET", "/v1/status", map[string]string{"Cookie": s.cookie + "=" + strings.Repeat("A", 26)}, http.StatusUnauthorized},
		"a name that leads to this host":  {b, "GET", "/v1/status", map[string]string{"Host": "rebound.example"}, http.StatusForbidden},
		"an address of another host":      {b, "GET", "/v1/status", map[string]string{"Host": "192.0.2.1"}, http.StatusForbidden},
		"the page of another site":        {b, "PATCH", "/v1/forwards", map[string]string{"Origin": "http://evil.example"}, http.StatusForbidden},
		"the page of another port":        {b, "PATCH", "/v1/forwards", map[string]string{"Origin": "http://127.0.0.1:1"}, http.StatusForbidden},
		"a page without an origin":        {b, "PATCH", "/v1/forwards", map[string]string{"Origin": "null"}, http.StatusForbidden},
		"a change that tells no origin":   {b, "PATCH", "/v1/forwards", nil, http.StatusForbidden},
		"what another site looks at":      {b, "GET", "/v1/status", map[string]string{"Sec-Fetch-Site": "cross-site"}, http.StatusForbidden},
		"what another port looks at":      {b, "GET", "/v1/status", map[string]string{"Sec-Fetch-Site": "same-site"}, http.StatusForbidden},
		"a change that the page has not":  {b, "POST", "/v1/stop", map[string]string{"Origin": origin}, http.StatusMethodNotAllowed},
		"forwards that are all replaced":  {b, "PUT", "/v1/forwards", map[string]string{"Origin": origin}, http.StatusMethodNotAllowed},
		"another guest":                   {b, "POST", "/v1/guests", map[string]string{"Origin": origin}, http.StatusMethodNotAllowed},
		"a guest that goes":               {b, "DELETE", "/v1/guests/10.0.2.15", map[string]string{"Origin": origin}, http.StatusMethodNotAllowed},
		"all forwards of one guest":       {b, "PUT", "/v1/guests/10.0.2.15/forwards", map[string]string{"Origin": origin}, http.StatusMethodNotAllowed},
		"what lies above the page":        {b, "GET", "/../doc.go", nil, http.StatusNotFound},
		"what lies above what is allowed": {b, "DELETE", "/v1/guests/a/../../forwards/flows", map[string]string{"Origin": origin}, http.StatusMethodNotAllowed},
		"no file of the page":             {b, "GET", "/server.go", nil, http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			status, _ := s.ask(c.client, c.method, c.path, c.fields)
			require.Equal(t, c.status, status)
			require.Empty(t, s.asked, "the control socket is not asked")
		})
	}
	status, _ := s.ask(b, "GET", "/", map[string]string{"Sec-Fetch-Site": "cross-site"})
	require.Equal(t, http.StatusOK, status, "a link to the page is no harm")
}

func TestACaptureIsAFileNamedAfterItsGuest(t *testing.T) {
	s := serve(t)
	for path, want := range map[string]string{
		"/v1/guests/10.0.2.15/capture?count=1": "attachment; filename=10.0.2.15.pcapng",
		"/v1/guests/%2Ftmp%2Fvm0.sock/capture": "attachment; filename=-tmp-vm0.sock.pcapng",
		"/v1/guests/%22%0D%0Aa%3A%20b/capture": "attachment; filename*=utf-8''%22%0D%0Aa%3A%20b.pcapng",
		"/v1/guests/10.0.2.15/flows":           "",
	} {
		response, err := s.browser().Get("http://" + s.host() + path)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, want, response.Header.Get("Content-Disposition"), path)
	}
}

func TestABodyIsBounded(t *testing.T) {
	s := serve(t)
	r, err := http.NewRequestWithContext(t.Context(), "PATCH", "http://"+s.host()+"/v1/forwards", strings.NewReader(strings.Repeat(" ", maxBody+1)))
	require.NoError(t, err)
	r.Header.Set("Origin", "http://"+s.host())
	response, err := s.browser().Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
}

func TestNoVringAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s, err := New(l, "/nonexistent/ctl", NewToken())
	require.NoError(t, err)
	go func() { _ = s.Serve(t.Context()) }()
	here := &served{Server: s, t: t}
	status, body := here.ask(here.browser(), "GET", "/v1/status", nil)
	require.Equal(t, http.StatusBadGateway, status)
	require.Contains(t, body, `{"error":"the control socket /nonexistent/ctl does not answer`)
}

// The page is told of each kind of event by its name.
func TestThePageKnowsEachKindOfEvent(t *testing.T) {
	script, err := files.ReadFile("page/page.js")
	require.NoError(t, err)
	list := regexp.MustCompile(`(?s)const kinds = (\[.*?\]);`).FindSubmatch(script)[1]
	var kinds []string
	require.NoError(t, json.Unmarshal(regexp.MustCompile(`,\s*\]`).ReplaceAll(list, []byte("]")), &kinds))
	require.ElementsMatch(t, api.EventKinds(), kinds)
}
