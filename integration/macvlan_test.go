package integration

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

// The second host is a macvlan interface in a network namespace of the guest: a container, as it were.
func TestAContainerBehindTheGuestsCardHasItsOwnNetwork(t *testing.T) {
	t.Parallel()
	const mac, address = "02:00:00:00:00:02", "10.0.2.101"
	service, forward := freePort(t), freePort(t)
	vring := startVring(t, "nat", "--allow-host", fmt.Sprintf("tcp:%d", service), "--lease", mac+"="+address,
		"-p", fmt.Sprintf("127.0.0.1:%d:%s:5201", forward, address))
	s := newUMLStation(limited(t), t, userland.Forky, vring, 1)
	_, err := s.WaitBoot(s.ctx)
	require.NoError(t, err)
	var lease proto.Lease
	s.do(&lease, "dhcp", card)
	require.Equal(t, "10.0.2.15/24", lease.Address)

	s.run("ip link add link "+card+" name mv0 address "+mac+" type macvlan mode bridge", "ip link set mv0 up")
	s.do(&lease, "dhcp", "mv0")
	require.Equal(t, address+"/24", lease.Address)
	s.run("ip netns add b", "ip link set mv0 netns b", "ip -n b address add "+address+"/24 dev mv0", "ip -n b link set mv0 up",
		"ip -n b route add default via 10.0.2.2")

	server := exec.CommandContext(s.ctx, "iperf3", "-s", "-B", "127.0.0.1", "-p", fmt.Sprint(service))
	require.NoError(t, server.Start())
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	s.start("ip netns exec b iperf3 -s")
	pings := s.Start("ping", "10.0.2.2", 100) // the first host is heard all the while
	download := fmt.Sprintf("iperf3 -J -R -n 2M -c 10.0.2.2 -p %d", service)
	require.Eventually(t, func() bool {
		var out proto.Text
		return s.start("ip netns exec b "+download).Wait(s.ctx, &out) == nil && iperfBytes(t, out.Text) >= 2<<20
	}, soon, 100*time.Millisecond)
	require.Eventually(t, func() bool {
		out, err := exec.CommandContext(s.ctx, "iperf3", "-J", "-n", "2M", "-c", "127.0.0.1", "-p", fmt.Sprint(forward)).Output()
		// The server may end before it has read all that was sent; only the container has one.
		return err == nil && iperfBytes(t, string(out)) > 0
	}, soon, 100*time.Millisecond, "the forward leads to the container")
	var echoes proto.Echoes
	require.NoError(t, pings.Wait(s.ctx, &echoes))
	require.Equal(t, echoes.Sent, echoes.Answered)
}

// behindTheCard are hosts behind one network card: each has a MAC address and a network namespace of its own in the guest, and a server on
// the host that it talks to.
type behindTheCard struct {
	l       *lab
	servers []int // ports on the host
}

// serveBehindTheCard starts a server for each of n hosts. args are what vring has to be told.
func serveBehindTheCard(t *testing.T, n int) (b *behindTheCard, args []string) {
	b = &behindTheCard{}
	for range n {
		port := freePort(t)
		server, err := process.Start(limited(t), exec.Command("iperf3", "-s", "-B", "127.0.0.1", "-p", fmt.Sprint(port)), process.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, server.Kill()) })
		b.servers = append(b.servers, port)
		args = append(args, "--allow-host", fmt.Sprintf("tcp:%d", port))
	}
	return b, args
}

// join makes the hosts. Each gets a lease.
func (b *behindTheCard) join(l *lab) {
	l.t.Helper()
	b.l = l
	taken := map[string]bool{"10.0.2.15/24": true}
	for i := range b.servers {
		name := fmt.Sprintf("mv%d", i)
		l.run(fmt.Sprintf("ip link add link %s name %s address 02:00:00:00:01:%02x type macvlan mode bridge", card, name, i), "ip link set "+name+" up")
		var lease proto.Lease
		l.do(&lease, "dhcp", name)
		require.False(l.t, taken[lease.Address], "%s has %s, too", name, lease.Address)
		taken[lease.Address] = true
		l.run("ip netns add "+name, "ip link set "+name+" netns "+name, "ip -n "+name+" address add "+lease.Address+" dev "+name,
			"ip -n "+name+" link set "+name+" up", "ip -n "+name+" route add default via 10.0.2.2")
	}
}

// talk has all hosts transfer data at once, from the host to them or the other way, while something happens to the guest. What they send, the
// server may not have read when it ends.
func (b *behindTheCard) talk(receive bool, during func()) {
	b.l.t.Helper()
	option, enough := "", 1
	if receive {
		option, enough = "-R", 1<<20
	}
	var calls []*guest.Call
	for i, port := range b.servers {
		calls = append(calls, b.l.start(fmt.Sprintf("ip netns exec mv%d iperf3 -J %s -n 1M -c 10.0.2.2 -p %d", i, option, port)))
	}
	during()
	for _, call := range calls {
		var out proto.Text
		require.NoError(b.l.t, call.Wait(b.l.ctx, &out))
		require.GreaterOrEqual(b.l.t, iperfBytes(b.l.t, out.Text), float64(enough))
	}
}

// start begins to run a command line in the guest.
func (l *lab) start(line string) *guest.Call {
	var words []any
	for _, word := range strings.Fields(line) {
		words = append(words, word)
	}
	return l.guest.Start("run", words...)
}

// run runs command lines in the guest.
func (l *lab) run(lines ...string) {
	l.t.Helper()
	for _, line := range lines {
		require.NoError(l.t, l.start(line).Wait(l.ctx, nil))
	}
}

// iperfBytes returns how many bytes iperf3 says that it received.
func iperfBytes(t *testing.T, out string) float64 {
	var result struct {
		End struct {
			Received struct{ Bytes float64 } `json:"sum_received"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(out), &result), out)
	return result.End.Received.Bytes
}
