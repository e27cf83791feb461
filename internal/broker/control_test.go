package broker

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// eachWay runs a test with a control socket that the broker accepts for, and with one that this process does.
func eachWay(t *testing.T, test func(t *testing.T, path string, accepted <-chan net.Conn)) {
	t.Run("by the broker", func(t *testing.T) {
		path := filepath.Join(shortDir(t), "c")
		test(t, path, acceptAll(t, startBroker(t, Duties{Control: path}), path))
	})
	t.Run("in this process", func(t *testing.T) {
		path := filepath.Join(shortDir(t), "c")
		test(t, path, acceptAll(t, NewClient(Observer{}), path))
	})
}

// acceptAll accepts connections to a control socket as long as the test goes on. They are open as long.
func acceptAll(t *testing.T, c *Client, path string) <-chan net.Conn {
	l, err := c.ListenControl(path)
	require.NoError(t, err)
	require.Equal(t, path, l.Addr().String())
	accepted, all := make(chan net.Conn), make(chan struct{})
	ctx := t.Context()
	go func() {
		defer close(all)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			select {
			case accepted <- conn:
			case <-ctx.Done():
			}
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		<-all
	})
	return accepted
}

// connect connects to a control socket. The test does not wait for ever for what comes from there.
func connect(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.Dial("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	return c.(*net.UnixConn)
}

// connected is connect to a socket at which the connection is accepted.
func connected(t *testing.T, path string, accepted <-chan net.Conn) (client, server net.Conn) {
	t.Helper()
	client = connect(t, path)
	select {
	case server = <-accepted:
	case <-time.After(time.Minute):
		require.Fail(t, "the connection is not accepted")
	}
	return client, server
}

func TestConnectionsToTheControlSocketAreServed(t *testing.T) {
	eachWay(t, func(t *testing.T, path string, accepted <-chan net.Conn) {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		for range 3 {
			client, server := connected(t, path, accepted)
			_, err := server.Write([]byte("x"))
			require.NoError(t, err)
			require.NoError(t, server.Close())
			got, err := io.ReadAll(client)
			require.NoError(t, err)
			require.Equal(t, "x", string(got))
		}
	})
}

// The file goes with whoever has made it, be the other process killed.
func TestTheControlSocketsFileIsRemovedInTheEnd(t *testing.T) {
	path := filepath.Join(shortDir(t), "c")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	stale.SetUnlinkOnClose(false)
	require.NoError(t, stale.Close())

	c := startBroker(t, Duties{Control: path})
	require.FileExists(t, path)
	require.NoError(t, c.Undo())
	require.NoFileExists(t, path)

	l, err := NewClient(Observer{}).ListenControl(path)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.NoError(t, l.Close(), "again")
	require.NoFileExists(t, path)
	_, err = l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestABrokerWithoutAPlaceForTheControlSocketDoesNotStart(t *testing.T) {
	path := filepath.Join(shortDir(t), "none", "c")
	c := NewClient(Observer{})
	require.ErrorContains(t, c.Start(Program(os.Args[0]), Duties{Control: path}), "no such file or directory")
	require.False(t, c.Started())
}

// asStranger is set in the environment of a child that is another user who connects to that path.
const asStranger = "VRING_TEST_AS_STRANGER"

// strangersRequests are as many as are waited for when they are refused, and some that are not.
const strangersRequests = maxRefused + 2

// beStranger makes requests and prints the answers.
func beStranger(path string) {
	var conns []net.Conn
	for range strangersRequests {
		c, err := net.Dial("unix", path)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		_, _ = io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: vring\r\n\r\n") // it may be refused before
		conns = append(conns, c)
	}
	for _, c := range conns {
		_, _ = io.Copy(os.Stdout, c) // the end may be a reset
	}
}

func TestAnotherUserIsToldThatHeMayNotControlIt(t *testing.T) {
	const nobody = 65534
	eachWay(t, func(t *testing.T, path string, accepted <-chan net.Conn) {
		require.NoError(t, os.Chmod(filepath.Dir(path), 0o755)) // files do not stop him
		require.NoError(t, os.Chmod(path, 0o666))
		stranger := exec.Command(selfFor(t, nobody))
		stranger.Env = append(os.Environ(), asStranger+"="+path)
		stranger.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := stranger.Output()
		require.NoError(t, err, string(out))
		require.Equal(t, strangersRequests, strings.Count(string(out), "HTTP/1.1 403 Forbidden\r\n"))
		require.Equal(t, strangersRequests, strings.Count(string(out), "user 65534 may not control this vring; use it as user 0"), string(out))
		client, server := connected(t, path, accepted) // the first that is passed on
		_, err = client.Write([]byte("x"))
		require.NoError(t, err)
		var got [1]byte
		_, err = io.ReadFull(server, got[:])
		require.NoError(t, err)
		require.Equal(t, "x", string(got[:]))
	})
}

// selfFor is this program where another user may run it.
func selfFor(t *testing.T, uid int) string {
	dir, err := os.MkdirTemp("/tmp", "vr")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chown(dir, uid, uid))
	self, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	path := filepath.Join(dir, "stranger")
	require.NoError(t, os.WriteFile(path, self, 0o755))
	return path
}

// Whoever comes when there are too many is told, and not kept waiting; when one has ended, the next is served.
func TestConnectionsToTheControlSocketAreBounded(t *testing.T) {
	eachWay(t, func(t *testing.T, path string, accepted <-chan net.Conn) {
		var servers []net.Conn
		for range MaxControl {
			_, server := connected(t, path, accepted)
			servers = append(servers, server)
		}
		require.Equal(t, "64 connections are open, and no more are accepted; close some, or try again", refusedWith(t, connect(t, path)))
		require.NoError(t, servers[0].Close())
		_ = servers[0].Close() // which counts once
		requireOneMore(t, path, accepted)
		refusedWith(t, connect(t, path))
	})
}

// refusedWith returns why a connection was refused since there are too many.
func refusedWith(t *testing.T, c net.Conn) string {
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
	var why struct{ Error string }
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&why))
	return why.Error
}

// requireOneMore connects until a connection is accepted: the end of another one may not have been counted yet.
func requireOneMore(t *testing.T, path string, accepted <-chan net.Conn) {
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); {
		ended := make(chan struct{})
		go func(c net.Conn) {
			_, _ = io.ReadAll(c) // ends if it is refused
			close(ended)
		}(connect(t, path))
		select {
		case <-accepted:
			return
		case <-ended:
		}
	}
	require.Fail(t, "nobody is accepted")
}

func TestConnectionsAreAcceptedAtABoundedRate(t *testing.T) {
	path := filepath.Join(shortDir(t), "c")
	l, _, err := listenControl(path)
	require.NoError(t, err)
	defer l.close()
	const connections, aSecond = 21, 100
	l.pace = rate.NewLimiter(aSecond, 1)
	began := time.Now()
	for range connections {
		connect(t, path)
		c, err := l.accept()
		require.NoError(t, err)
		require.NoError(t, c.Close())
		l.release()
	}
	require.GreaterOrEqual(t, time.Since(began), (connections-1)*time.Second/aSecond)
}

// The end of a connection that never was makes no room for one.
func TestEndsThatWereNotAreNotCounted(t *testing.T) {
	path := filepath.Join(shortDir(t), "c")
	l, _, err := listenControl(path)
	require.NoError(t, err)
	defer l.close()
	for range 3 {
		l.release()
	}
	for range MaxControl {
		connect(t, path)
		c, err := l.accept()
		require.NoError(t, err)
		defer c.Close()
	}
	c := connect(t, path)
	go func() { _, _ = l.accept() }()
	refusedWith(t, c)
}

// A connection that nobody takes costs the broker nothing, and its client is not kept waiting for ever.
func TestConnectionsForAServerThatHasGoneAreClosed(t *testing.T) {
	path := filepath.Join(shortDir(t), "c")
	c := startBroker(t, Duties{Control: path})
	l, err := c.ListenControl(path)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	for range MaxControl + 1 {
		_, err := io.ReadAll(connect(t, path))
		if err != nil {
			require.ErrorIs(t, err, unix.ECONNRESET)
		}
	}
}
