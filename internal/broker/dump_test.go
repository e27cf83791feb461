package broker

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The files in /proc of a process that may be traced by others of its user are that user's (proc(5)).
func TestNoOtherProcessOfItsUserLooksIntoTheBroker(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to start a broker of another user")
	}
	const nobody = 65534
	broker := exec.Command(selfFor(t, nobody))
	start := func(duties []byte) (*net.UnixConn, error) {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		theirs := os.NewFile(uintptr(pair[1]), "broker's")
		defer theirs.Close()
		broker.Stdin, broker.Stderr, broker.ExtraFiles = bytes.NewReader(duties), os.Stderr, []*os.File{theirs}
		broker.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		require.NoError(t, broker.Start())
		return SocketOf(os.NewFile(uintptr(pair[0]), "broker"))
	}
	c := NewClient(Observer{})
	require.NoError(t, c.Start(start, Duties{Read: "/etc/hostname"}))
	for _, name := range []string{"maps", "environ", "fd"} {
		var st unix.Stat_t
		require.NoError(t, unix.Stat(fmt.Sprintf("/proc/%d/%s", broker.Process.Pid, name), &st))
		require.Zero(t, st.Uid, name)
	}
	require.NoError(t, c.Undo())
	require.NoError(t, broker.Wait())
}
