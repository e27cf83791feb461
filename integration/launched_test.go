package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/qemu"
	"github.com/vringnet/vring/integration/lab/userland"
)

// QEMU starts vring in the place of passt (-netdev passt): it gives it one end of a connection as file descriptor 3, waits until the process
// that it has started ends, and reads the number of the one that serves in a file.
//
// With vhost-user, QEMU passes the connection and closes its own copy twice. A back end that has it open a further connection in between (the
// back end's channel) makes the second close hit something else: guest memory, among others. So there is none on a socket that
// was passed. What QEMU opens itself in between depends on its threads: so it may happen now and then, but not each time.
func TestQEMUStartsVringInThePlaceOfPasst(t *testing.T) {
	for name, vhostUser := range map[string]string{"vhost-user": "on", "stream": "off"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testLaunched(t, vhostUser)
		})
	}
}

func testLaunched(t *testing.T, vhostUser string) {
	l := &lab{t: t, ctx: limited(t), kind: onQEMU(userland.Forky), tcp: serveTCP(t, labBytes), forwardTCP: freePort(t), udpEcho: serveUDPEcho(t)}
	dir := l.launch(vhostUser)
	lease := l.lease()
	require.Equal(t, "10.0.2.15/24", lease.Address)
	require.Equal(t, 65520, lease.MTU)
	l.requireLaunched()
	first := launched(dir)
	require.Len(t, first, 1)
	if vhostUser == "on" {
		require.NoError(t, l.guest.qemu.QMP.Reset())
		l.boot()
	} else {
		// QEMU starts it again when the connection is lost.
		require.NoError(t, syscall.Kill(first[0], syscall.SIGTERM))
		require.Eventually(t, func() bool {
			now := launched(dir)
			return len(now) == 1 && now[0] != first[0]
		}, soon, tick)
		l.lease()
	}
	l.requireLaunched()

	require.NoError(t, l.guest.qemu.QMP.Quit())
	require.Eventually(t, func() bool { return len(launched(dir)) == 0 }, soon, tick, "vring ends with its QEMU")
}

// launch starts QEMU until one has kept its descriptors (TestQEMUStartsVringInThePlaceOfPasst) and has booted, and returns the directory
// of that one.
func (l *lab) launch(vhostUser string) string {
	l.t.Helper()
	const attempts = 20
	var lost []string
	for range attempts {
		dir := shortDir(l.t)
		l.t.Cleanup(func() { endLaunched(l.t, dir) })
		m, err := l.launchIn(dir, vhostUser)
		if err == nil {
			l.t.Logf("QEMU closed a descriptor that it needed %d times: %q", len(lost), lost)
			l.guest = endWithTest(l.t, &testGuest{Process: m.Process, Console: m.Console, qemu: m})
			require.NoError(l.t, l.guest.Start("udp-echo", guestUDPPort).Event(l.ctx, nil))
			return dir
		}
		lost = append(lost, err.Error())
	}
	require.Fail(l.t, "no QEMU kept its descriptors", "%d were started: %q", attempts, lost)
	return ""
}

// launchIn starts QEMU, which starts vring, and waits until the guest has booted and its driver is up. It leaves no QEMU when it fails.
func (l *lab) launchIn(dir, vhostUser string) (*qemu.Machine, error) {
	program := filepath.Join(dir, "passt")
	require.NoError(l.t, os.Symlink(built.vring, program))
	kill := func() error { return nil }
	m, err := qemu.Start(l.ctx, qemu.Options{
		Dir: dir, Userland: l.kind.userland, Initrd: built.image(l.kind.userland, false, false),
		Netdev: fmt.Sprintf("passt,vhost-user=%s,path=%s,quiet=off,address=10.0.2.15,netmask=24,gateway=10.0.2.2,ipv6=off,tcp-ports=127.0.0.1/%d:%d,param=--log-file,param=%s",
			vhostUser, program, l.forwardTCP, guestTCPPort, filepath.Join(dir, "log")),
	})
	if err == nil {
		kill = m.Kill
		_, err = m.Console.WaitBoot(l.ctx)
	}
	if err == nil && vhostUser == "on" && !driverUp(dir) {
		err = fmt.Errorf("the guest's driver is not up: %s", lastOf(m.Output()))
	}
	if err != nil {
		err = errors.Join(err, kill())
		assertEventually(func() bool { return len(launched(dir)) == 0 }) // then its port is free again
		return nil, err
	}
	return m, nil
}

// requireLaunched checks what the guest has of its network, each way.
func (l *lab) requireLaunched() {
	l.t.Helper()
	var echoes proto.Echoes
	l.do(&echoes, "ping", "10.0.2.2", 3, 1400)
	require.Equal(l.t, proto.Echoes{Sent: 3, Answered: 3}, echoes)
	l.transferOut() // the gateway's address leads to the host's loopback
	l.transferIn()
	l.do(&echoes, "udp-dial", viaGateway(l.udpEcho), 1, 64, guestFromPort)
	require.Equal(l.t, proto.Echoes{Sent: 64, Answered: 64}, echoes)
}

// driverUp waits until the guest's driver is up, and reports whether it is: not if QEMU has closed the guest's memory.
func driverUp(dir string) (up bool) {
	assertEventually(func() bool {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		up = bytes.Contains(log, []byte("guest driver is up"))
		return up || bytes.Contains(log, []byte("is not a regular file"))
	})
	return up
}

// launched are the processes that serve in the background with a file of dir.
func launched(dir string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, process := range all {
		words, err := os.ReadFile(process + "/cmdline")
		if err != nil || !bytes.Contains(words, []byte(dir+"/log")) || !bytes.Contains(words, []byte("\x00--foreground\x00")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(process))
		if err == nil && isVring(pid) && !servedBy(pid) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// servedBy reports whether a process is the one that another one has started to serve guests.
func servedBy(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, found := bytes.Cut(status, []byte(") "))
	fields := bytes.Fields(rest)
	if err != nil || !found || len(fields) < 2 {
		return false
	}
	parent, err := strconv.Atoi(string(fields[1]))
	return err == nil && isVring(parent)
}

// isVring reports whether a process is a vring of this run.
func isVring(pid int) bool {
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && program == built.vring
}

// endLaunched ends what QEMU has started in the background, at the end of a test.
func endLaunched(t *testing.T, dir string) {
	for _, pid := range launched(dir) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if log, err := os.ReadFile(filepath.Join(dir, "log")); err == nil && t.Failed() {
		t.Logf("vring printed:\n%s", lastOf(string(log)))
	}
}
