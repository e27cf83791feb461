package integration

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/userland"
)

// The second host is a macvlan interface in a network namespace of the guest: a container, as it were.
func TestAContainerBehindTheGuestsCardHasItsOwnNetwork(t *testing.T) {
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
