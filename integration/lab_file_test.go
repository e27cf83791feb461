package integration

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/userland"
)

// labFile is a lab of two guests whose consoles are sockets. QEMU waits until somebody is there to read.
const labFile = `guests:
  - name: alice
    switch: lan
    nat: {}
    run: %[1]s
  - name: bob
    switch: lan
    nat: {}
    link: lan
    run: %[2]s
`

// A user without rights starts a lab of two guests in QEMU, which reach each other by name, and takes it down again.
func TestALabOfAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	kernel, err := guest.KernelImage(userland.Bookworm)
	require.NoError(t, err)
	kernel, initrd, vring := s.lend(kernel), s.lend(built.image(userland.Bookworm, false, false)), s.lend(built.vring)
	console := func(name string) string { return filepath.Join(s.run, name+".console") }
	run := func(name string) string {
		return fmt.Sprintf("[qemu-system-x86_64, -accel, tcg, -cpu, max, -m, 256M, -nodefaults, -machine, q35, -kernel, %s, -initrd, %s, "+
			"-append, console=ttyS0 quiet loglevel=1 panic=-1, -serial, \"unix:%s,server=on\"]", kernel, initrd, console(name))
	}
	file := filepath.Join(s.dir, "pair.yaml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, labFile, run("alice"), run("bob")), 0o644))
	lab := func(args ...string) string {
		t.Helper()
		words := s.as(vring, append([]string{"lab"}, args...)...)
		out, err := exec.CommandContext(context.WithoutCancel(s.ctx), words[0], words[1:]...).CombinedOutput()
		require.NoError(t, err, string(out))
		return string(out)
	}
	t.Cleanup(func() {
		lab("down", file)
		left, err := filepath.Glob(filepath.Join(s.run, "vring*"))
		require.NoError(t, err)
		require.Empty(t, left)
	})

	require.Equal(t, "the lab pair is up\n", lab("up", file, "--wait", "0"))
	guests := map[string]*guest.Console{}
	for _, name := range []string{"alice", "bob"} {
		guests[name] = consoleAt(t, console(name))
	}
	for name, g := range guests {
		_, err := g.WaitBoot(s.ctx)
		require.NoError(t, err)
		var lease proto.Lease
		require.NoError(t, g.Do(s.ctx, &lease, "dhcp", card), name)
		require.Equal(t, map[string]string{"alice": "10.0.2.15/24", "bob": "10.0.2.16/24"}[name], lease.Address)
	}
	for name, other := range map[string]string{"alice": "bob", "bob": "alice"} {
		var names proto.Names
		require.NoError(t, guests[name].Do(s.ctx, &names, "resolve", other+".vring.internal."))
		require.Len(t, names.Addresses, 1)
		var echoes proto.Echoes
		require.NoError(t, guests[name].Do(s.ctx, &echoes, "ping", names.Addresses[0], 3))
		require.Equal(t, proto.Echoes{Sent: 3, Answered: 3}, echoes, "%s asks %s", name, other)
	}
	require.Equal(t, "the lab pair is up already; nothing has changed\nalice: up, 10.0.2.15\nbob: up, 10.0.2.16\n", lab("up", file))
	require.Regexp(t, `(?m)^bob +runs as \d+ for \d+s +up +10\.0\.2\.16$`, lab("status", file))
}

// consoleAt is the console of a guest behind a socket that its QEMU makes.
func consoleAt(t *testing.T, socket string) *guest.Console {
	var conn net.Conn
	require.Eventually(t, func() bool {
		var err error
		conn, err = net.Dial("unix", socket)
		return err == nil
	}, soon, tick)
	t.Cleanup(func() { _ = conn.Close() })
	return guest.NewConsole(conn, conn, func() string { return "" })
}
