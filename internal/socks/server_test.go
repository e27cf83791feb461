package socks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
)

// served is a server whose clients are connected by a function of the test.
type served struct {
	*Server
	t  *testing.T
	at string
}

func serve(t *testing.T, patience time.Duration, connect Connector) *served {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	s := &served{NewServer(l, connect, slog.New(slog.DiscardHandler)), t, l.Addr().String()}
	s.patience = patience
	s.pace.SetLimit(rate.Inf)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve()
	}()
	t.Cleanup(func() {
		s.Close()
		require.NoError(t, l.Close())
		<-done
		require.Empty(t, s.clients)
	})
	return s
}

// dial returns a client that has sent something.
func (s *served) dial(sent string) *net.TCPConn {
	s.t.Helper()
	c, err := net.Dial("tcp4", s.at)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = c.Close() })
	require.NoError(s.t, c.SetDeadline(time.Now().Add(2*time.Minute)))
	_, err = io.WriteString(c, sent)
	require.NoError(s.t, err)
	return c.(*net.TCPConn)
}

// rest is what a client is sent until the end.
func (s *served) rest(c net.Conn) string {
	s.t.Helper()
	text, err := io.ReadAll(c)
	require.NoError(s.t, err)
	return string(text)
}

// echo is a guest that accepts, and gives back what comes.
func echo(ctx context.Context, to Target, c *net.TCPConn, greeting []byte) (Reply, error) {
	_, _ = c.Write(greeting)
	_, _ = io.Copy(c, c)
	return Succeeded, nil
}

func TestAClientIsConnected(t *testing.T) {
	var asked atomic.Value
	s := serve(t, time.Minute, func(ctx context.Context, to Target, c *net.TCPConn, greeting []byte) (Reply, error) {
		asked.Store(to.String())
		return echo(ctx, to, c, greeting)
	})
	c := s.dial(hello + named("vm0") + "early")
	require.NoError(t, c.CloseWrite())
	require.Equal(t, "\x05\x00"+string(message(Succeeded))+"early", s.rest(c))
	require.Equal(t, `"vm0":80`, asked.Load())
}

// The client reads the reply though it has sent more than anybody has read.
func TestAClientThatIsRefusedReadsWhy(t *testing.T) {
	s := serve(t, time.Minute, func(context.Context, Target, *net.TCPConn, []byte) (Reply, error) { return Refused, errors.New("no") })
	c := s.dial(hello + named("vm0") + zeros(100_000))
	require.Equal(t, "\x05\x00"+string(message(Refused)), s.rest(c))
	c = s.dial(hello + "\x05\x02\x00\x01\x0a\x00\x02\x0f\x00\x16" + zeros(1000))
	require.Equal(t, "\x05\x00"+string(message(NoSuchCommand)), s.rest(c))
}

// Who is refused has the end of the reply at once, and may go on to send in the meantime: nothing resets the connection.
func TestAClientThatIsRefusedMayGoOnToSend(t *testing.T) {
	s := serve(t, time.Minute, func(context.Context, Target, *net.TCPConn, []byte) (Reply, error) { return Refused, errors.New("no") })
	s.farewell = time.Hour
	c := s.dial(hello + named("vm0") + zeros(1000))
	require.Equal(t, "\x05\x00"+string(message(Refused)), s.rest(c))
	for range 50 {
		_, err := io.WriteString(c, zeros(100))
		require.NoError(t, err)
		time.Sleep(time.Millisecond) // in which a reset would come
	}
}

func TestAClientThatSpeaksAnotherProtocolIsNotAnswered(t *testing.T) {
	s := serve(t, time.Minute, echo)
	for _, sent := range []string{"GE", "\x04\x01", "\x16\x03"} {
		require.Empty(t, s.rest(s.dial(sent)))
	}
}

func TestAHandshakeHasItsTime(t *testing.T) {
	s := serve(t, 100*time.Millisecond, echo)
	for _, sent := range []string{"", "\x05", hello, hello + "\x05\x01\x00\x03\xff"} {
		c := s.dial(sent)
		s.rest(c)
	}
	slow := serve(t, time.Hour, echo).dial(hello)
	buf := make([]byte, 2)
	_, err := io.ReadFull(slow, buf)
	require.NoError(t, err)
	require.NoError(t, slow.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
	_, err = slow.Read(buf)
	require.ErrorContains(t, err, "timeout", "it is the time that ends a handshake, and not that it is half")
}

// Whoever connects and says nothing makes room for others, the oldest first; who waits for a guest is closed last.
func TestVeryManyClientsMakeRoomForEachOther(t *testing.T) {
	calls, hold := make(chan struct{}, 1), make(chan struct{})
	s := serve(t, time.Hour, func(ctx context.Context, to Target, c *net.TCPConn, greeting []byte) (Reply, error) {
		if to.Name != "waits" {
			return echo(ctx, to, c, greeting)
		}
		calls <- struct{}{}
		select {
		case <-hold:
			_, _ = c.Write(greeting)
			return Succeeded, nil
		case <-ctx.Done():
			return GeneralFailure, ctx.Err()
		}
	})
	before := runtime.NumGoroutine()
	waits := s.dial(hello + named("waits"))
	<-calls
	var silent []*net.TCPConn
	for range 1000 {
		silent = append(silent, s.dial("\x05"))
	}
	require.Eventually(t, func() bool { return s.waiting() == maxWaiting }, time.Minute, time.Millisecond)
	require.Empty(t, s.rest(silent[0]), "the oldest was closed")
	c := s.dial(hello + named("vm0"))
	require.NoError(t, c.CloseWrite())
	require.Equal(t, "\x05\x00"+string(message(Succeeded)), s.rest(c), "who asks well is served")
	close(hold)
	require.Equal(t, "\x05\x00"+string(message(Succeeded)), s.rest(waits))
	for _, c := range silent {
		_ = c.Close()
	}
	require.Eventually(t, func() bool { return s.waiting() == 0 }, time.Minute, time.Millisecond)
	for until := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(until), "%d goroutines, after %d", runtime.NumGoroutine(), before)
	}
}

func (s *served) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.clients)
}

// If all wait for guests, the one that has waited longest is let go: its call is cancelled.
func TestAClientThatWaitsTooLongAmongManyIsLetGo(t *testing.T) {
	begun, ended := make(chan string, 2*maxWaiting), make(chan string, 2*maxWaiting)
	s := serve(t, time.Hour, func(ctx context.Context, to Target, c *net.TCPConn, _ []byte) (Reply, error) {
		begun <- to.Name
		<-ctx.Done()
		ended <- to.Name
		return GeneralFailure, ctx.Err()
	})
	for i := range maxWaiting + 2 {
		s.dial(hello + named(fmt.Sprint(i)))
		require.Equal(t, fmt.Sprint(i), <-begun)
	}
	require.Equal(t, "0", <-ended)
	require.Equal(t, "1", <-ended)
	require.Equal(t, maxWaiting, s.waiting())
}

func TestAServerThatIsClosedLetsItsClientsGo(t *testing.T) {
	begun := make(chan struct{}, 1)
	s := serve(t, time.Hour, func(ctx context.Context, _ Target, _ *net.TCPConn, _ []byte) (Reply, error) {
		begun <- struct{}{}
		<-ctx.Done()
		return GeneralFailure, ctx.Err()
	})
	half, waits := s.dial(hello), s.dial(hello+named("vm0"))
	<-begun
	require.Eventually(t, func() bool { return s.waiting() == 2 }, time.Minute, time.Millisecond)
	s.Close()
	for _, c := range []net.Conn{half, waits} {
		_, _ = io.ReadAll(c)
	}
}
