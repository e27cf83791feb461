package netns

import (
	"io"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func newNamespace(t *testing.T) *Namespace {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	n, err := New()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

func TestTwoNamespacesAreWiredAndTalk(t *testing.T) {
	left, right := newNamespace(t), newNamespace(t)
	for _, line := range []string{
		"ip link add wire type veth peer name wire netns " + right.Path(),
		"ip address add 192.0.2.1/24 dev wire",
		"ip link set wire up",
	} {
		_, err := left.Run(line)
		require.NoError(t, err)
	}
	_, err := right.Run("ip address add 192.0.2.2/24 dev wire")
	require.NoError(t, err)
	_, err = right.Run("ip link set wire up")
	require.NoError(t, err)

	var listener net.Listener
	require.NoError(t, right.Do(func() (err error) {
		listener, err = net.Listen("tcp4", "192.0.2.2:80")
		return err
	}))
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_, _ = conn.Write([]byte("hello"))
			conn.Close()
		}
	}()
	var conn net.Conn
	require.NoError(t, left.Do(func() (err error) {
		conn, err = net.Dial("tcp4", "192.0.2.2:80")
		return err
	}))
	defer conn.Close()
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
}

func TestACommandThatFailsTellsWhatItSaid(t *testing.T) {
	_, err := newNamespace(t).Run("ip link set nothing up")
	require.ErrorContains(t, err, `ip link set nothing up: exit status 1: Cannot find device "nothing"`)
}

// What is done in a namespace is done nowhere else.
func TestTheCallerStaysWhereItWas(t *testing.T) {
	before, err := os.Readlink("/proc/thread-self/ns/net")
	require.NoError(t, err)
	n := newNamespace(t)
	var inside string
	require.NoError(t, n.Do(func() (err error) {
		inside, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	}))
	require.NotEqual(t, before, inside)
	after, err := os.Readlink("/proc/thread-self/ns/net")
	require.NoError(t, err)
	require.Equal(t, before, after)
}
