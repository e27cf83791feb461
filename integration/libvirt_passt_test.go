package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/userland"
)

// passtInterface is an interface of a domain as for passt: nothing in it is about vring.
func passtInterface(kind, address string, port int) string {
	return fmt.Sprintf(`<interface type='%s'>
  <backend type='passt'/>
  <ip family='ipv4' address='%s' prefix='24'/>
  <portForward proto='tcp' address='127.0.0.1'><range start='%d' to='%d'/></portForward>
  <model type='virtio'/>
</interface>`, kind, address, port, guestTCPPort)
}

// An ordinary user's libvirt finds vring where it looks for passt. The domain has an interface of either kind: by vhost-user, and by QEMU's
// stream protocol.
func TestAUsersLibvirtStartsVringInThePlaceOfPasst(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	programs := filepath.Join(s.dir, "bin")
	require.NoError(t, os.Mkdir(programs, 0o755))
	vring := s.lend(built.vring)
	require.NoError(t, os.Symlink(vring, filepath.Join(programs, "passt")))
	s.first = programs + ":"
	s.serveLibvirt()
	kernel, err := guest.KernelImage(userland.Bookworm)
	require.NoError(t, err)
	description := s.describe(filepath.Join(s.run, "none.sock"), s.lend(kernel), s.lend(built.image(userland.Bookworm, false, false)))
	ports := map[string]int{"vhostuser": freePort(t), "user": freePort(t)}
	cards := []struct{ kind, card, address string }{{"vhostuser", "eth0", "10.5.0.2"}, {"user", "eth1", "10.6.0.2"}}
	var interfaces string
	for _, c := range cards {
		interfaces += passtInterface(c.kind, c.address, ports[c.kind])
	}
	text, err := os.ReadFile(description)
	require.NoError(t, err)
	one := regexp.MustCompile(`(?s)<interface .*</interface>`)
	require.Len(t, one.FindAll(text, -1), 1)
	require.NoError(t, os.WriteFile(description, one.ReplaceAllLiteral(text, []byte(interfaces)), 0o644))
	s.virsh("define", description)
	console := s.boot("vm0")

	tcp := serveTCP(t, labBytes)
	for _, c := range cards {
		var lease proto.Lease
		require.NoError(t, console.Do(s.ctx, &lease, "dhcp", c.card))
		require.Equal(t, c.address+"/24", lease.Address, c.kind)
		require.Equal(t, 65520, lease.MTU)
		var got proto.Transfer
		require.NoError(t, console.Do(s.ctx, &got, "tcp-dial", net.JoinHostPort(lease.Router, strconv.Itoa(tcp.Port)), labBytes, guestSeed))
		requirePattern(t, hostSeed, labBytes, got)
		requirePattern(t, guestSeed, labBytes, tcp.next(s.ctx, t))
		l := &lab{t: t, ctx: s.ctx, guest: &testGuest{Console: console}}
		l.transferBy("tcp4", local(ports[c.kind]))
		require.NoError(t, console.Do(s.ctx, nil, "down", c.card))
	}
	s.virsh("destroy", "vm0")
	require.Eventually(t, func() bool { return len(processesOf(vring)) == 0 }, soon, tick, "libvirt ends what it has started")
}

// processesOf are the processes of a program.
func processesOf(program string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, exe := range all {
		if at, err := os.Readlink(exe); err == nil && at == program {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(exe)))
			pids = append(pids, pid)
		}
	}
	return pids
}
