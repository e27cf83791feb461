package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control"
)

func TestWhatIsWrongWithAConnectionIsTold(t *testing.T) {
	c := startControlled(t)
	for args, want := range map[string]string{
		"connect":                        "want a guest and a port, as in: vring ctl connect 10.0.2.15:22",
		"connect 10.0.2.15":              "want a guest and a port",
		"connect :22":                    "want a guest and a port",
		"connect 10.0.2.15:ssh":          `"ssh": want [ADDRESS:]PORT`,
		"connect 10.0.2.15 22 x":         `unexpected "x"; want a guest and a port`,
		"connect 10.0.2.99:22":           `there is no guest "10.0.2.99"; there are ["10.0.2.15" "10.0.2.16"]`,
		"connect 10.0.2.15 10.0.2.16:22": "10.0.2.16 is the address of another guest; name that one",
		"connect 10.0.2.15:22 --watch":   "--watch: a connection goes on anyway",
		"connect 10.0.2.15:22 -o json":   "--output: what the guest sends is printed as it is",
	} {
		status, stdout, stderr := c.ctl(strings.Fields(args)...)
		require.Equal(t, exitUsage, status, args)
		require.Contains(t, stderr, want)
		require.Empty(t, stdout)
	}
	for _, args := range []string{"connect 10.0.2.15:22", "connect " + c.socket + ":22", "connect 10.0.2.15 10.0.2.77:22"} { // from within the sandbox
		status, stdout, stderr := c.ctl(strings.Fields(args)...)
		require.Equal(t, exitError, status, args)
		require.Contains(t, stderr, "guest 10.0.2.15 has no front end: it is not running")
		require.Empty(t, stdout)
	}
}

// joined is a connection that is joined to an input and an output, and what a test sees of it.
type joined struct {
	guest *net.UnixConn // the other end
	in    *os.File      // writes the input
	out   *os.File      // reads the output
	done  chan error
}

// connectedTo returns a connection to a guest, and the guest's end. What the guest sends at first comes with the answer.
func connectedTo(t *testing.T, first string) (*control.Connection, *net.UnixConn) {
	l, err := net.Listen("unix", filepath.Join(shortDir(t), "s"))
	require.NoError(t, err)
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"+first)
		accepted <- c
	}()
	conn, err := control.NewClient(l.Addr().String()).Connect(t.Context(), "10.0.2.15", "22")
	require.NoError(t, err)
	return conn, (<-accepted).(*net.UnixConn)
}

// newJoined joins a connection.
func newJoined(t *testing.T, first string) *joined {
	conn, guest := connectedTo(t, first)
	in, toIn, err := os.Pipe()
	require.NoError(t, err)
	out, toOut, err := os.Pipe()
	require.NoError(t, err)
	j := &joined{guest, toIn, out, make(chan error, 1)}
	for _, c := range []interface{ SetDeadline(time.Time) error }{j.guest, j.in, j.out} {
		require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	}
	go func() {
		j.done <- join(conn, in, toOut)
		_ = conn.Close()
	}()
	t.Cleanup(func() { _, _, _, _ = j.guest.Close(), j.in.Close(), j.out.Close(), in.Close() })
	return j
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	text, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(text)
}

func TestEachEndOfAConnectionIsPassedOnAlone(t *testing.T) {
	long := strings.Repeat("0123456789", 100_000)
	t.Run("that of the input first", func(t *testing.T) {
		j := newJoined(t, "first ")
		go func() { _, _ = io.WriteString(j.in, long); _ = j.in.Close() }()
		require.Equal(t, long, readAll(t, j.guest))
		go func() { _, _ = io.WriteString(j.guest, long); _ = j.guest.Close() }()
		require.Equal(t, "first "+long, readAll(t, j.out))
		require.NoError(t, <-j.done)
	})
	t.Run("that of the guest first", func(t *testing.T) {
		j := newJoined(t, "")
		go func() { _, _ = io.WriteString(j.guest, long); _ = j.guest.CloseWrite() }()
		require.Equal(t, long, readAll(t, j.out), "the output ends while the input goes on")
		go func() { _, _ = io.WriteString(j.in, long); _ = j.in.Close() }()
		require.Equal(t, long, readAll(t, j.guest))
		require.NoError(t, <-j.done)
	})
}

func TestAConnectionThatIsOverDoesNotWaitForMoreInput(t *testing.T) {
	j := newJoined(t, "bye")
	require.NoError(t, j.guest.Close())
	require.Equal(t, "bye", readAll(t, j.out))
	require.NoError(t, <-j.done)
}

// The connection is over before it is known that what was read from the input goes nowhere: it is waited for that, but not for more input.
func TestInputThatIsBeingPassedOnAtTheEndIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over, sent, to := make(chan struct{}), make(chan error, 1), new(sender)
		close(over)
		require.NoError(t, awaitInput(sent, over, to), "nothing was read")
		to.failing.Store(true)
		go func() {
			time.Sleep(time.Second)
			sent <- io.ErrClosedPipe
		}()
		require.ErrorIs(t, awaitInput(sent, over, to), io.ErrClosedPipe)
	})
}

// What could not be passed on stays known.
func TestASenderRemembersThatItCouldNotSend(t *testing.T) {
	conn, guest := connectedTo(t, "")
	defer conn.Close()
	to := &sender{conn: conn}
	_, err := to.Write([]byte("x"))
	require.NoError(t, err)
	require.False(t, to.failing.Load())
	require.NoError(t, guest.Close())
	_, err = to.Write([]byte("x"))
	require.Error(t, err)
	require.True(t, to.failing.Load())
}

func TestInputThatIsLostIsTold(t *testing.T) {
	j := newJoined(t, "")
	for j.in.SetWriteDeadline(time.Now().Add(time.Second)) == nil { // until nobody takes more
		if _, err := j.in.Write(make([]byte, 64<<10)); err != nil {
			break
		}
	}
	require.NoError(t, j.guest.CloseRead())
	require.NoError(t, j.guest.CloseWrite())
	require.ErrorContains(t, <-j.done, "the guest takes no more, and what was read last is lost")
}
