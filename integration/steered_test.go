package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/userland"
	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
)

const (
	steerClients = 50
	// steerTick is the time between two changes of forwards: each removes one and adds one. Every policyTicks of them the policy is
	// replaced, too.
	steerTick, policyTicks = 10 * time.Millisecond, 10
)

// Forwards come and go a hundred times a second and the policy is replaced ten times a second. Whoever is not named by that loses nothing:
// neither a stream, nor one of many clients that ask and are answered; nor do they by clients of the control socket that mean no good. The long form changes for a minute, and prints by how much clients
// wait longer.
func TestChangesDisturbNobodyWhomTheyDoNotName(t *testing.T) {
	windows, ticks := 2, 50
	if enduring() {
		windows, ticks = 60, 100
	}
	s := newSteered(t)
	var ratios []float64
	for range windows {
		began := time.Now()
		s.change(ticks)
		took := time.Since(began)
		changed := s.answersSince(began)
		time.Sleep(took)
		quiet := s.answersSince(began.Add(took))
		ratios = append(ratios, float64(percentile99(changed))/float64(percentile99(quiet)))
	}
	s.beAbused(t)
	require.Positive(t, s.streamed.Load())
	before := s.streamed.Load()
	s.answered(t, 2*steerClients)
	require.Eventually(t, func() bool { return s.streamed.Load() > before+64<<10 }, soon, time.Millisecond, "the stream goes on")
	s.requireMetrics()
	s.requireAnotherGuest()
	s.stop()
	require.NoError(t, s.clients.Wait())
	slices.Sort(ratios)
	t.Logf("99th percentile of %d answers, changing to quiet: median %.2f of %.2f", len(s.answers), ratios[len(ratios)/2], ratios)
	t.Logf("99th percentile of %d changes: %v, median %v", len(s.changes), percentile99(s.changes), s.changes[len(s.changes)/2])
}

// requireMetrics checks what Prometheus reads of a guest under load.
func (s *steered) requireMetrics() {
	page := s.vring.page()
	promtool(s.t, page, "check", "metrics")
	for _, sample := range []string{
		`vring_nat_flows\{guest="10.0.2.15",state="open"\} 5[0-9]`,
		`vring_nat_connect_seconds_count\{begun_by="guest",guest="10.0.2.15"\} [1-9]`,
		`vring_nat_connect_seconds_count\{begun_by="host",guest="10.0.2.15"\} 5[0-9]`,
		`vring_thread_turn_seconds_count\{guest="10.0.2.15",pair="0"\} [1-9]`,
		`vring_thread_to_guest_interrupts_total\{guest="10.0.2.15",pair="0"\} [1-9]`,
		`vring_thread_to_guest_ring_entries\{guest="10.0.2.15",pair="0"\} [1-9]`,
		`vring_guest_limit_used\{guest="10.0.2.15",limit="sockets"\} 5[0-9]`,
	} {
		require.Regexp(s.t, sample, string(page))
	}
}

// steered is a guest under load whose forwards and rules are changed.
type steered struct {
	*lab
	control  *control.Client
	stop     context.CancelFunc
	clients  errgroup.Group // ends with stop, or what has gone wrong
	streamed atomic.Int64   // bytes of the stream that came as they should
	changes  []time.Duration

	mu      sync.Mutex
	answers []reply // guarded by mu
}

// reply is that a client was answered.
type reply struct {
	at   time.Time
	took time.Duration
}

func newSteered(t *testing.T) *steered {
	s := &steered{}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(t.Context())
	stream := make(chan error, 1)
	port := acceptAll(t, func(conn net.Conn) { stream <- s.count(ctx, conn) })
	s.lab = newLab(t, onUML(userland.Forky), "--allow-host", fmt.Sprint("tcp:", port))
	s.control = control.NewClient(s.vring.Socket + ".ctl")
	t.Cleanup(s.control.Close)
	require.NoError(t, s.guest.Start("tcp-echo", guestTCPPort).Event(s.ctx, nil))
	s.guest.Start("tcp-dial", viaGateway(port), 1<<50, guestSeed)
	s.clients.Go(func() error { return <-stream })
	for i := range steerClients {
		conn := dial(s.ctx, t, "tcp4", s.forwardTCP)
		s.clients.Go(func() error { return s.ask(ctx, conn, uint64(i)<<32) })
	}
	s.answered(t, steerClients)
	return s
}

// requireAnotherGuest adds a guest with a network of its own, and one of another kind, boots the first, uses it by a forward of its own, and
// removes both.
func (s *steered) requireAnotherGuest() {
	t := s.t
	t.Helper()
	beside := func(name string) string { return filepath.Join(filepath.Dir(s.vring.Socket), name) }
	port := freePort(t)
	s.mustChange(http.MethodPost, "/v1/guests", map[string]any{
		"name": "later", "socket-path": beside("later.sock"), "nat": map[string]any{"network": "10.77.0.0/24", "forwards": []string{fmt.Sprint(port, ":", guestTCPPort)}},
	})
	s.mustChange(http.MethodPost, "/v1/guests", map[string]any{"name": "echo", "socket-path": beside("echo.sock"), "stub": map[string]any{"mode": "echo"}})
	later := &lab{t: t, ctx: s.ctx, kind: s.kind, vring: s.vring, guest: startGuest(s.ctx, t, s.kind, beside("later.sock")), forwardTCP: port}
	require.Equal(t, "10.77.0.15/24", later.boot().Address)
	var echoes proto.Echoes
	later.do(&echoes, "ping", "10.77.0.2", 1)
	require.Equal(t, 1, echoes.Answered)
	later.transferIn()
	for _, name := range []string{"later", "echo"} {
		s.mustChange(http.MethodDelete, control.GuestPath(name, "", nil), nil)
		require.NoFileExists(t, beside(name+".sock"))
	}
	_, err := net.Dial("tcp4", local(port))
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	var guests []api.Guest
	require.NoError(t, s.control.Do(s.ctx, http.MethodGet, "/v1/guests", nil, &guests))
	require.Len(t, guests, 1)
	s.answered(t, 2*steerClients)
}

// count reads the guest's stream until ctx ends, and compares it with what the guest sends.
func (s *steered) count(ctx context.Context, conn net.Conn) error {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	want, got, expected := proto.Pattern(guestSeed, 1<<50), make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := conn.Read(got)
		if _, short := io.ReadFull(want, expected[:n]); short != nil || !bytes.Equal(got[:n], expected[:n]) {
			return fmt.Errorf("the stream is wrong after %d bytes", s.streamed.Load())
		}
		s.streamed.Add(int64(n))
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("the stream ends after %d bytes: %w", s.streamed.Load(), err)
		}
		if err != nil {
			return nil
		}
	}
}

// ask sends numbers from first on, each when the one before has come back, until ctx ends.
func (s *steered) ask(ctx context.Context, conn net.Conn, first uint64) error {
	defer conn.Close()
	var question, got [64]byte
	for number := first; ctx.Err() == nil; number++ {
		binary.BigEndian.PutUint64(question[:], number)
		sent := time.Now()
		if err := conn.SetDeadline(sent.Add(soon)); err != nil {
			return err
		}
		_, err := conn.Write(question[:])
		if _, unread := io.ReadFull(conn, got[:]); err != nil || unread != nil {
			return fmt.Errorf("question %#x is not answered: %w", number, errors.Join(err, unread))
		}
		if got != question {
			return fmt.Errorf("question %#x has the answer of %#x", number, binary.BigEndian.Uint64(got[:]))
		}
		s.note(reply{sent, time.Since(sent)})
		time.Sleep(time.Millisecond)
	}
	return nil
}

func (s *steered) note(r reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = append(s.answers, r)
}

// answered waits for n more answers.
func (s *steered) answered(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.answers)
	}
	want := count() + n
	require.Eventually(t, func() bool { return count() >= want }, soon, time.Millisecond)
}

// answersSince returns how long the answers to what was asked since then took.
func (s *steered) answersSince(began time.Time) (took []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.answers {
		if a.at.After(began) {
			took = append(took, a.took)
		}
	}
	return took
}

// percentile99 is the 99th percentile.
func percentile99(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)*99/100]
}

// change makes so many changes of forwards, one each steerTick, and leaves things as they were.
func (s *steered) change(ticks int) {
	s.t.Helper()
	before := s.policy()
	other := before
	other.Rules = append([]api.Rule{{Deny: "192.0.2.0/24"}}, before.Rules...)
	ticker := time.NewTicker(steerTick)
	defer ticker.Stop()
	var last []api.Forward
	for i := range ticks {
		next := []api.Forward{{Text: fmt.Sprintf("%d:%d", freePort(s.t), guestTCPPort)}}
		s.mustChange(http.MethodPatch, "/v1/forwards", api.ForwardChange{Remove: last, Add: next})
		last = next
		if i%policyTicks == 0 {
			s.mustChange(http.MethodPut, "/v1/policy", []api.Policy{other, before}[i/policyTicks%2])
		}
		<-ticker.C
	}
	s.mustChange(http.MethodPatch, "/v1/forwards", api.ForwardChange{Remove: last})
	s.mustChange(http.MethodPut, "/v1/policy", before)
}

// policy returns the policy that there is.
func (s *steered) policy() (p api.Policy) {
	s.t.Helper()
	require.NoError(s.t, s.control.Do(s.ctx, http.MethodGet, "/v1/policy", nil, &p))
	return p
}

// mustChange makes a change.
func (s *steered) mustChange(method, path string, question any) {
	s.t.Helper()
	began := time.Now()
	require.NoError(s.t, s.control.Do(s.ctx, method, path, question, nil))
	s.changes = append(s.changes, time.Since(began))
}
