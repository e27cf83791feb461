package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/control/api"
)

// isLong reports whether tests may take minutes, as by make endurance.
func isLong() bool { return os.Getenv("VRING_ENDURANCE") != "" }

// held is what the process has: its descriptors, and its goroutines.
func held(t testing.TB) (descriptors, goroutines int) {
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries), runtime.NumGoroutine()
}

// requireReturned waits until the process has no more than before, when all clients are gone.
func (b *bench) requireReturned(descriptors, goroutines int) {
	b.t.Helper()
	b.client.Close()
	for until := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // in no goroutine of its own
		now, running := held(b.t)
		if now <= descriptors && running <= goroutines {
			return
		}
		require.True(b.t, time.Now().Before(until), "%d descriptors and %d goroutines, after %d and %d", now, running, descriptors, goroutines)
	}
}

// listenElsewhere lets a server answer at another socket, where there may be any number of connections in a second.
func (b *bench) listenElsewhere(server *Server) (path string) {
	path = filepath.Join(filepath.Dir(b.path), "fast")
	l, err := net.Listen("unix", path)
	require.NoError(b.t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(l)
	}()
	b.t.Cleanup(func() {
		server.Close()
		<-served
	})
	return path
}

// requestsOf are one whole request for each route.
func requestsOf() (all [][]byte) {
	bodies := map[string]string{
		"PATCH": `{"add": [{"text": "18080:80"}], "remove": [{"host_port": 18080, "guest_port": 80}]}`,
		"PUT":   `{"rules": [{"allow": "192.0.2.1:443"}], "restrict": true, "allow_host": ["tcp:5432"], "level": "debug"}`,
		"POST":  `{"timeout_ms": 3600000, "sha256": "00"}`,
	}
	for _, r := range routes() {
		path, body := strings.Replace(r.path, "{name}", "10.0.2.15", 1), bodies[r.method]
		all = append(all, fmt.Appendf(nil, "%s %s?limit=10&proto=tcp HTTP/1.1\r\nHost: vring\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			r.method, path, len(body), body))
	}
	return all
}

// mutate spoils a request in some places.
func mutate(r *rand.Rand, request []byte) []byte {
	text := slices.Clone(request)
	for range 1 + r.IntN(4) {
		if len(text) < 2 {
			break
		}
		at := r.IntN(len(text))
		until := min(len(text), at+1+r.IntN(20))
		switch r.IntN(6) {
		case 0:
			text[at] ^= 1 << r.IntN(8)
		case 1:
			text = slices.Delete(text, at, until)
		case 2:
			text = slices.Insert(text, at, text[at:until]...)
		case 3:
			text = slices.Insert(text, at, slices.Repeat([]byte{byte(r.Uint32())}, r.IntN(300))...)
		case 4:
			text = text[:at]
		case 5:
			text = slices.Insert(text, at, []byte([]string{"\r\n", "\x00", "{", "99999999999999999999", "%2e%2e/", "\"", "?after=0", "Transfer-Encoding: chunked\r\n"}[r.IntN(8)])...)
		}
	}
	return text
}

// Whatever a request is, it is answered with what the API promises, or by package http that it is none; nothing else becomes of it.
func TestRequestsThatAreSpoiltAreAnswered(t *testing.T) {
	b := newBench(t, 1)
	b.server.apply = harmless(b.d)
	path := b.listenElsewhere(b.server)
	all, random := requestsOf(), rand.New(rand.NewPCG(1, 2))
	before := b.d.Config()
	descriptors, goroutines := held(t)
	count := 1000
	if isLong() {
		count = 10000
	}
	answers := map[int]int{}
	for i := range count {
		request := mutate(random, all[i%len(all)])
		status := answerTo(t, path, request)
		require.NotEqual(t, http.StatusInternalServerError, status, "%q", request) // others of 500 and above tell what the request is
		answers[status]++
	}
	require.Greater(t, answers[http.StatusBadRequest], count/10, "%v", answers)
	require.Greater(t, len(answers), 4, "%v", answers)
	b.requireAnswers()
	if _, draining := b.d.Draining(); draining {
		require.NoError(t, b.d.CancelDrain())
	}
	_, err := b.d.Apply(before)
	require.NoError(t, err)
	b.requireReturned(descriptors, goroutines)
}

// answerTo sends a request, of which this is all, and returns the status that it is answered with; 0 for none, as to one that is not whole.
func answerTo(t *testing.T, path string, request []byte) (status int) {
	c, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	if _, err = c.Write(request); err == nil {
		_ = c.(*net.UnixConn).CloseWrite()
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "%q hangs", request)
		return 0
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		require.NoError(t, err, "%q", request)
	}
	if response.StatusCode >= 400 && response.Header.Get("Content-Type") == "application/json" {
		var e api.Error
		require.NoError(t, json.Unmarshal(text, &e), "%q: %q", request, text)
		require.NotEmpty(t, e.Text)
	}
	return response.StatusCode
}

// requireAnswers checks that who asks well is answered.
func (b *bench) requireAnswers() {
	b.t.Helper()
	status, text := b.ask(http.MethodGet, "/v1/status", "")
	require.Equal(b.t, http.StatusOK, status, text)
}

// Clients of whom there are far too many are answered or closed, and who asks well has its turn.
func TestVeryManyConnectionsAtOnceAreNoHarm(t *testing.T) {
	b := newBench(t, 1)
	b.requireAnswers()
	b.client.Close()
	descriptors, goroutines := held(t)
	count := 300
	if isLong() {
		count = 1000
	}
	var clients sync.WaitGroup
	leave := make(chan struct{})
	var connected atomic.Int32
	for i := range count {
		clients.Go(func() {
			c, err := dialLate(b.path)
			if !assert.NoError(t, err) {
				return
			}
			defer c.Close()
			connected.Add(1)
			_, _ = c.Write([]byte([]string{"", "GET", "GET /v1/status HTTP/1.1\r\nHost: vring\r\n\r\n"}[i%3]))
			<-leave
		})
	}
	answered := func() bool {
		return b.client.Do(t.Context(), http.MethodGet, "/v1/status", nil, nil) == nil // or there are too many at that moment
	}
	require.Eventually(t, func() bool { return connected.Load() == int32(count) }, 2*time.Minute, time.Millisecond)
	require.Eventually(t, answered, 2*time.Minute, time.Millisecond)
	close(leave)
	clients.Wait()
	b.requireAnswers()
	b.requireReturned(descriptors, goroutines)
}

// dialLate connects to a socket whose queue may be full.
func dialLate(path string) (net.Conn, error) {
	for {
		c, err := net.Dial("unix", path)
		if !errors.Is(err, unix.EAGAIN) {
			return c, err
		}
		time.Sleep(time.Millisecond)
	}
}

// A client that sends a byte now and then has its time, and no more.
func TestAClientThatIsSlowIsToldSo(t *testing.T) {
	b := newBench(t, 1)
	hasty := NewServer(b.server.Config)
	hasty.http.ReadTimeout = 200 * time.Millisecond
	c, err := net.Dial("unix", b.listenElsewhere(hasty))
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(c, "PUT /v1/log-level HTTP/1.1\r\nHost: vring\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := c.Write([]byte(" ")); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	var answer bytes.Buffer
	_, _ = io.Copy(&answer, c)
	require.NoError(t, c.Close())
	<-ended
	require.Contains(t, answer.String(), "400 Bad Request")
	require.Contains(t, answer.String(), "comes too slowly")
	b.requireAnswers()
}
