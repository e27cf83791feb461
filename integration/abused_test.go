package integration

import (
	"bufio"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// abuse is what is wrong with clients of the control socket: they spoil requests, send half of one, are slow, do not read, or are far too many.
type abuse struct {
	path        string
	connections int // that are held open at once, and say nothing or half of something

	mu      sync.Mutex
	answers map[int]int // guarded by mu: how often spoilt requests had which status; 0 for none
}

// soundRequests are some that do no harm whatever becomes of them.
func soundRequests() [][]byte {
	return [][]byte{
		[]byte("GET /v1/guests/10.0.2.15/flows?limit=10&proto=tcp HTTP/1.1\r\nHost: vring\r\n\r\n"),
		[]byte("GET /v1/guests/10.0.2.15/drops?reason=denied HTTP/1.1\r\nHost: vring\r\n\r\n"),
		[]byte("GET /v1/guests/10.0.2.15/explain?to=tcp:192.0.2.1:443 HTTP/1.1\r\nHost: vring\r\n\r\n"),
		[]byte("GET /v1/guests/10.0.2.15/capture?filter=tcp+port+80&snaplen=128&count=1&duration=1ms HTTP/1.1\r\nHost: vring\r\n\r\n"),
		[]byte("PUT /v1/log-level HTTP/1.1\r\nHost: vring\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{\"level\": \"info\"}"),
		[]byte("PATCH /v1/forwards HTTP/1.1\r\nHost: vring\r\nContent-Type: application/json\r\nContent-Length: 43\r\n\r\n{\"remove\": [{\"text\": \"127.0.0.1:1:9\"}]}    "),
	}
}

// spoil changes a request in some places.
func spoil(r *rand.Rand, request []byte) []byte {
	text := slices.Clone(request)
	for range 1 + r.IntN(4) {
		at := r.IntN(len(text))
		until := min(len(text), at+1+r.IntN(20))
		switch r.IntN(4) {
		case 0:
			text[at] ^= 1 << r.IntN(8)
		case 1:
			text = slices.Delete(text, at, until)
		case 2:
			text = slices.Insert(text, at, slices.Repeat([]byte{byte(r.Uint32())}, r.IntN(300))...)
		case 3:
			text = slices.Insert(text, at, []byte([]string{"\r\n", "\x00", "{", "99999999999999999999", "%2e%2e/", "Transfer-Encoding: chunked\r\n"}[r.IntN(6)])...)
		}
		if len(text) == 0 {
			break
		}
	}
	return text
}

// until does all of it at once until stop is closed.
func (a *abuse) until(stop <-chan struct{}) {
	var clients sync.WaitGroup
	for i := range uint64(4) {
		clients.Go(func() { a.spoilUntil(stop, rand.New(rand.NewPCG(7, i))) })
	}
	beginnings := []string{
		"", "GET /v1/sta", "PUT /v1/log-level HTTP/1.1\r\nHost: vring\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{",
		"GET /v1/events HTTP/1.1\r\nHost: vring\r\n\r\n",
	}
	for i := range a.connections {
		clients.Go(func() { a.holdUntil(stop, beginnings[i%len(beginnings)], i%7 == 0) })
	}
	clients.Wait()
}

// spoilUntil sends spoilt requests, one after the other.
func (a *abuse) spoilUntil(stop <-chan struct{}, r *rand.Rand) {
	all := soundRequests()
	for i := 0; !isClosed(stop); i++ {
		c, err := a.dial(stop)
		if err != nil {
			return
		}
		status := answerTo(c, spoil(r, all[i%len(all)]))
		a.mu.Lock()
		a.answers[status]++
		a.mu.Unlock()
	}
}

// answerTo sends a request, of which this is all, and returns the status of the answer; 0 for none.
func answerTo(c net.Conn, request []byte) (status int) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(soon))
	if _, err := c.Write(request); err == nil {
		_ = c.(*net.UnixConn).CloseWrite()
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// holdUntil holds a connection open that begins with something and reads nothing. A slow one sends a byte now and then.
func (a *abuse) holdUntil(stop <-chan struct{}, beginning string, slow bool) {
	for !isClosed(stop) {
		c, err := a.dial(stop)
		if err != nil {
			return
		}
		_, err = io.WriteString(c, beginning)
		for err == nil && !isClosed(stop) {
			time.Sleep(20 * time.Millisecond)
			if slow {
				_, err = io.WriteString(c, " ")
			}
		}
		_ = c.Close()
	}
}

// dial connects, however full the queue of the socket is.
func (a *abuse) dial(stop <-chan struct{}) (net.Conn, error) {
	for {
		c, err := net.Dial("unix", a.path)
		if !errors.Is(err, syscall.EAGAIN) || isClosed(stop) {
			return c, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// count returns how many spoilt requests have had a status since the beginning.
func (a *abuse) count(status int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.answers[status]
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// beAbused lets clients that mean no good at the control socket, in windows that alternate with quiet ones, and tells by how much clients of the guest wait longer.
func (s *steered) beAbused(t *testing.T) {
	windows, window, connections := 1, 700*time.Millisecond, 300
	if enduring() {
		windows, window, connections = 20, 3*time.Second, 1000
	}
	a := &abuse{path: s.vring.Socket + ".ctl", connections: connections, answers: map[int]int{}}
	const few = 5
	var ratios []float64
	for i := range windows {
		stop, done := make(chan struct{}), make(chan struct{})
		began := time.Now()
		go func() {
			defer close(done)
			a.until(stop)
		}()
		time.Sleep(window)
		require.Eventually(t, func() bool { return a.count(http.StatusBadRequest) > few*i }, soon, time.Millisecond, "spoilt requests are not answered")
		abused := s.answersSince(began)
		close(stop)
		<-done
		began = time.Now()
		time.Sleep(window)
		ratios = append(ratios, float64(percentile99(abused))/float64(percentile99(s.answersSince(began))))
	}
	slices.Sort(ratios)
	t.Logf("99th percentile of answers while %d clients abuse the control socket, to quiet: median %.2f of %.2f; their answers: %v", connections, ratios[len(ratios)/2], ratios, a.answers)
	require.Zero(t, a.answers[http.StatusInternalServerError], "%v", a.answers)
	require.Eventually(t, func() bool { return s.control.Do(s.ctx, http.MethodGet, "/v1/status", nil, nil) == nil }, soon, 10*time.Millisecond, "who asks well is answered")
}
