package integration

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

// newRouters makes a row of hosts, each but the last a router for those before it: 198.18.N.1 and 2001:db8:N::1 are the ends
// nearer to the guest of the N-th cable, .2 and ::2 the farther ones. vring runs on the first.
func newRouters(t *testing.T, n int) (row []*host) {
	t.Helper()
	row = []*host{newHost(t)}
	for i := 1; i <= n; i++ {
		near, far := row[i-1], newHost(t)
		row = append(row, far)
		name := fmt.Sprintf("wire%d", i)
		near.wire(name, far)
		near.run(fmt.Sprintf("ip address add 198.18.%d.1/24 dev %s", i, name), fmt.Sprintf("ip address add 2001:db8:%d::1/64 dev %s nodad", i, name))
		far.run(fmt.Sprintf("ip address add 198.18.%d.2/24 dev %s", i, name), fmt.Sprintf("ip address add 2001:db8:%d::2/64 dev %s nodad", i, name))
		for name, value := range map[string]string{
			"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1",
			"net.ipv4.icmp_ratelimit": "0", "net.ipv6.icmp.ratelimit": "0", // tracers ask often
		} {
			require.NoError(t, far.Sysctl(name, value))
		}
	}
	for i, h := range row {
		if i > 0 {
			h.run(fmt.Sprintf("ip route add 198.18.0.0/16 via 198.18.%d.1", i), fmt.Sprintf("ip route add 2001:db8::/32 via 2001:db8:%d::1", i))
		}
		for j := i + 2; j <= n; j++ {
			h.run(fmt.Sprintf("ip route add 198.18.%d.0/24 via 198.18.%d.2", j, i+1),
				fmt.Sprintf("ip route add 2001:db8:%d::/64 via 2001:db8:%d::2", j, i+1))
		}
	}
	return row
}

// hops are the lines of a tracer: the number of the hop, and who has answered there.
var hops = regexp.MustCompile(`(?m)^ *(\d+)(?:\.\|--)? +(?:\(?([0-9a-f.:]+)\)?)`)

// Every router between guest and destination shows, in its place, whatever the tracer sends; the guest's own router is the first.
func TestTracersInAGuestShowEveryRouter(t *testing.T) {
	t.Parallel()
	row := newRouters(t, 3)
	require.NoError(t, row[0].Sysctl("net.ipv4.ping_group_range", "0 2147483647"))
	ctx := limited(t)
	d := startVringWith(t, process.Options{Thread: row[0].Enter}, "nat", "--dns", "198.18.1.2")
	s := newUMLStation(ctx, t, userland.Forky, d, 1)
	_, err := s.WaitBoot(ctx)
	require.NoError(t, err)
	s.do(nil, "dhcp", card)
	s.do(nil, "slaac", card)
	v4 := []string{"10.0.2.2", "198.18.1.2", "198.18.2.2", "198.18.3.2"}
	v6 := []string{gateway6, "2001:db8:1::2", "2001:db8:2::2", "2001:db8:3::2"}
	show := func(tracer string, routes ...[]string) {
		for _, route := range routes {
			line := fmt.Sprintf(tracer, route[3])
			t.Run(line, func(t *testing.T) {
				out := s.run(line)
				var seen []string
				for _, m := range hops.FindAllStringSubmatch(out, -1) {
					seen = append(seen, m[2])
				}
				require.Equal(t, route, seen, out)
			})
		}
	}
	show("traceroute -n -q 1 %s", v4, v6)
	show("traceroute -n -q 1 -I %s", v4, v6)
	show("traceroute -n -q 1 -T %s", v4, v6)
	show("traceroute -n -q 1 -I %s 2000", v4, v6)
	// mtr waits two seconds for what may still come, so not each goes both ways.
	show("mtr -n -r -c 1 -G 2 %s", v6)
	show("mtr --udp -n -r -c 1 -G 2 %s", v4)
	show("mtr --tcp -n -r -c 1 -G 2 %s", v4)
	t.Run("long pings", func(t *testing.T) {
		for _, to := range []string{v4[0], v4[3], v6[0], v6[3]} {
			s.requirePing(to, 2000)
			s.requirePing(to, 60_000)
		}
	})
}
