package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

// All tests run vring in its sandbox, as it is by default. These look at the sandbox itself.

// requireSandboxed checks that all threads of vring are in the sandbox.
func (d *daemon) requireSandboxed() {
	d.t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", d.PID()))
	require.NoError(d.t, err)
	require.Greater(d.t, len(files), 1)
	for _, file := range files {
		status, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the thread has ended
		}
		require.NoError(d.t, err)
		for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000"} {
			require.Contains(d.t, string(status), want)
		}
	}
}

func TestTheNetworkWorksInTheSandbox(t *testing.T) {
	t.Parallel()
	onOneOfEach(t, userland.Bookworm, func(t *testing.T, kind kind) {
		l := newLab(t, kind, "--sandbox=on")
		l.requireNetwork()
		l.vring.requireSandboxed()
		require.NoError(t, syscall.Kill(l.vring.PID(), syscall.SIGSTOP))
		time.Sleep(100 * time.Millisecond) // the kernel resumes sleeps by a system call of its own
		require.NoError(t, syscall.Kill(l.vring.PID(), syscall.SIGCONT))
		l.requireNetwork()
	})
}

func TestTheSocketIsRemovedFromTheSandbox(t *testing.T) {
	for _, command := range []string{"nat", "stub"} {
		t.Run(command, func(t *testing.T) {
			vring := startVring(t, command, "--sandbox=on")
			vring.requireSandboxed()
			require.FileExists(t, vring.Socket)
			vring.terminate()
			require.NoFileExists(t, vring.Socket)
		})
	}
}

// The host's resolvers change while vring runs, by a new file that takes the place of the old one, or fail.
func TestAGuestResolvesWhateverBecomesOfTheHostsResolvers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give vring an /etc of its own")
	}
	serveDNSAt(t, "127.83.0.1", "192.0.2.1")
	serveDNSAt(t, "127.83.0.2", "192.0.2.2")
	ignoreDNSAt(t, "127.83.0.3")
	etc := t.TempDir()
	writeResolvers(t, etc, "127.83.0.1")
	l := &lab{t: t, ctx: limited(t), kind: onQEMU(userland.Bookworm), vring: startVringWithEtc(t, etc)}
	l.startGuest()
	require.Equal(t, []string{"192.0.2.1"}, l.resolve())

	writeResolvers(t, etc, "127.83.0.2")
	require.Eventually(t, func() bool { return l.resolve()[0] == "192.0.2.2" }, soon, time.Second)

	require.NoError(t, os.Mkdir(filepath.Join(etc, "net"), 0o755)) // it becomes a link to what was not there before
	writeResolvers(t, filepath.Join(etc, "net"), "127.83.0.3", "127.83.0.1")
	require.NoError(t, os.Symlink("net/resolv.conf", filepath.Join(etc, "new")))
	require.NoError(t, os.Rename(filepath.Join(etc, "new"), filepath.Join(etc, "resolv.conf")))
	require.Eventually(t, func() bool { return l.resolve()[0] == "192.0.2.1" }, soon, time.Second, "the first is silent")
	l.vring.waitOutput("a resolver of the host does not answer; others are asked before it")
	l.vring.requireSandboxed()
}

// resolve asks for the one name that the resolvers know.
func (l *lab) resolve() []string {
	l.t.Helper()
	var names proto.Names
	l.do(&names, "resolve", sandboxName)
	require.NotEmpty(l.t, names.Addresses)
	return names.Addresses
}

const sandboxName = "service.example."

// serveDNSAt starts a resolver where a resolv.conf can name it: on port 53 of an address of the loopback.
func serveDNSAt(t *testing.T, address, answers string) {
	started := make(chan struct{})
	server := &dns.Server{
		Addr: address + ":53", Net: "udp", NotifyStartedFunc: func() { close(started) },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			_ = w.WriteMsg(answer(q, sandboxName, netip.MustParseAddr(answers)))
		}),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case <-started:
	case err := <-failed:
		require.NoError(t, err)
	}
	t.Cleanup(func() { _ = server.Shutdown() })
}

// ignoreDNSAt takes queries where a resolv.conf can name it, and answers none.
func ignoreDNSAt(t *testing.T, address string) {
	silent, err := net.ListenPacket("udp", address+":53")
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
}

// writeResolvers replaces resolv.conf in a directory.
func writeResolvers(t *testing.T, dir string, addresses ...string) {
	file := filepath.Join(dir, "new")
	var text strings.Builder
	for _, a := range addresses {
		fmt.Fprintf(&text, "nameserver %s\n", a)
	}
	require.NoError(t, os.WriteFile(file, []byte(text.String()), 0o644))
	require.NoError(t, os.Rename(file, filepath.Join(dir, "resolv.conf")))
}

// startVringWithEtc is startVring with another directory as /etc.
func startVringWithEtc(t *testing.T, etc string) *daemon {
	d := &daemon{t: t, Socket: filepath.Join(shortDir(t), "vring.sock")}
	command := exec.Command(built.vring, "nat", "--socket-path", d.Socket, "--sandbox=on")
	mount := func() error { // on a thread of its own, with a mount namespace of its own
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		return unix.Mount(etc, "/etc", "", unix.MS_BIND, "")
	}
	var err error
	d.Process, err = process.Start(context.Background(), command, process.Options{Thread: mount})
	require.NoError(t, err)
	require.Eventually(t, d.ready, soon, 5*time.Millisecond, "vring is not ready")
	t.Cleanup(d.terminate)
	return d
}
