package nat_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// flows returns all flows that a filter chooses, and how many there were in the largest of the slices.
func (b *bench) flows(filter nat.FlowFilter) (all []nat.FlowInfo, largest int) {
	for from := uint32(0); ; {
		some, next := b.port.Flows(b.Now(), from, &filter)
		all, largest = append(all, some...), max(largest, len(some))
		if from = next; from == 0 {
			return all, largest
		}
	}
}

// endFlows ends all flows that a filter chooses, and returns how many, and how many in the largest of the slices.
func (b *bench) endFlows(filter nat.FlowFilter) (all, largest int) {
	for from := uint32(0); ; {
		some, next := b.port.EndFlows(from, &filter)
		all, largest = all+some, max(largest, some)
		if from = next; from == 0 {
			return all, largest
		}
	}
}

// remote is a filter for the other end.
func remote(t *testing.T, text string) nat.FlowFilter {
	t.Helper()
	r, err := spec.ParseDestination(text)
	require.NoError(t, err)
	return nat.FlowFilter{Remote: r}
}

// variety gives the guest a connection that it began, one that came by a forward, and an association.
func (b *bench) variety(dial func() *net.TCPConn) (out *porttest.TCP) {
	b.t.Helper()
	b.Listen(80)
	dial()
	b.Until("it is open", func() bool { return len(b.port.Snapshot(b.Now()).Flows) == 1 && b.onlyFlow().State == "open" })
	out, _ = b.connect()
	b.datagrams(1)
	b.Settle()
	return out
}

func TestFlowsAreFoundByWhatTheyAre(t *testing.T) {
	b, dial := newForward(t, setup{})
	out := b.variety(dial)
	in, no := true, false
	server := b.server.String()
	for name, c := range map[string]struct {
		filter nat.FlowFilter
		want   []string
	}{
		"all":                       {nat.FlowFilter{}, []string{"in tcp", "out tcp", "out udp"}},
		"protocol":                  {nat.FlowFilter{Proto: unix.IPPROTO_UDP}, []string{"out udp"}},
		"that the host began":       {nat.FlowFilter{Inbound: &in}, []string{"in tcp"}},
		"that the guest began":      {nat.FlowFilter{Inbound: &no}, []string{"out tcp", "out udp"}},
		"port":                      {nat.FlowFilter{GuestPort: 80}, []string{"in tcp"}},
		"port of the guest's own":   {nat.FlowFilter{GuestPort: out.Local.Port()}, []string{"out tcp"}},
		"port that nobody has":      {nat.FlowFilter{GuestPort: 9}, nil},
		"address":                   {nat.FlowFilter{Guest: b.IP}, []string{"in tcp", "out tcp", "out udp"}},
		"address of somebody else":  {nat.FlowFilter{Guest: b.Gateway}, nil},
		"state":                     {nat.FlowFilter{State: "associated"}, []string{"out udp"}},
		"state that nobody is in":   {nat.FlowFilter{State: "closing"}, nil},
		"other end":                 {remote(t, server), []string{"out tcp", "out udp"}},
		"other end and protocol":    {remote(t, "tcp:"+server), []string{"out tcp"}},
		"network of the other ends": {remote(t, "10.0.2.0/24"), []string{"in tcp", "out tcp", "out udp"}},
		"port of the other end":     {remote(t, "0.0.0.0/0:9"), nil},
		"other version of IP":       {remote(t, "::/0"), nil},
	} {
		var got []string
		all, _ := b.flows(c.filter)
		for i := range all {
			direction := "out "
			if all[i].Inbound {
				direction = "in "
			}
			got = append(got, direction+all[i].ProtoName())
		}
		require.ElementsMatch(t, c.want, got, name)
	}
	all, _ := b.flows(nat.FlowFilter{GuestPort: 80})
	requireSameFlow(t, b.port.Snapshot(b.Now()).Flows, all[0])
}

// requireSameFlow checks that a flow is one of all, in every word.
func requireSameFlow(t *testing.T, all []nat.FlowInfo, f nat.FlowInfo) {
	t.Helper()
	f.Age = 0
	for i := range all {
		all[i].Age = 0
	}
	require.Contains(t, all, f)
}

func TestFlowsEndOnDemandAndOthersGoOnWhole(t *testing.T) {
	b := newBench(t, setup{})
	doomed, doomedHost := b.connect()
	kept, keptHost := b.connect()
	b.datagrams(1)
	before := b.Sockets()

	const size = 1 << 20
	up, down := noise(size), noise(size+1)
	kept.Send(up)
	go func() { _, _ = keptHost.Write(down) }()
	b.Until("some bytes have come", func() bool { return len(kept.Received()) > size/8 })
	ended, _ := b.endFlows(nat.FlowFilter{GuestPort: doomed.Local.Port()})
	require.Equal(t, 1, ended)
	again, _ := b.endFlows(nat.FlowFilter{GuestPort: doomed.Local.Port()})
	require.Zero(t, again, "what is over does not end again")
	b.Until("the guest is told", func() bool { return doomed.State == porttest.WasReset })
	require.NoError(t, doomedHost.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err := doomedHost.Read(make([]byte, 1))
	require.ErrorIs(t, err, unix.ECONNRESET, "so is the host")
	ended, _ = b.endFlows(nat.FlowFilter{Proto: unix.IPPROTO_UDP})
	require.Equal(t, 1, ended)
	require.Equal(t, before-2, b.Sockets())

	requireSame(t, up, b.readSome(keptHost, size))
	kept.WaitFor(len(down))
	requireSame(t, down, kept.Received())
	require.Equal(t, map[string]int{"ended_on_demand": 1}, b.endings())
}

func TestAConnectionOfAForwardEndsOnDemand(t *testing.T) {
	for name, answers := range map[string]bool{"open": true, "that the guest has not answered": false} {
		t.Run(name, func(t *testing.T) {
			b, dial := newForward(t, setup{})
			if answers {
				b.Listen(80)
			}
			client := dial()
			b.Until("there is a flow", func() bool {
				all := b.port.Snapshot(b.Now()).Flows
				return len(all) == 1 && (!answers || all[0].State == "open")
			})
			ended, _ := b.endFlows(nat.FlowFilter{})
			require.Equal(t, 1, ended)
			b.Until("the guest is told", func() bool { return len(b.port.Snapshot(b.Now()).Flows) == 0 })
			require.ErrorIs(t, b.readAll(client).err, unix.ECONNRESET)
			require.Equal(t, map[string]int{"ended_on_demand": 1}, b.endings())
		})
	}
}

// The guest's thread has other things to do.
func TestFlowsAreLookedAtAndEndedSomeAtATime(t *testing.T) {
	b := newBench(t, setup{config: func(c *nat.Config) { c.MaxFlows, c.MaxSockets = 4000, 4000 }})
	b.Resolve()
	const flows = 300
	b.datagrams(flows)
	all, largest := b.flows(nat.FlowFilter{})
	ports := map[netip.AddrPort]bool{}
	for i := range all {
		ports[all[i].Guest] = true
	}
	require.Len(t, all, flows)
	require.Len(t, ports, flows, "none is told twice")
	require.LessOrEqual(t, largest, 64)
	ended, largest := b.endFlows(nat.FlowFilter{Proto: unix.IPPROTO_UDP})
	require.Equal(t, flows, ended)
	require.LessOrEqual(t, largest, 11)
	require.Empty(t, b.port.Snapshot(b.Now()).Flows)
}

func TestAStateThatThereIsNotIsTold(t *testing.T) {
	for _, state := range nat.FlowStates() {
		require.NoError(t, (&nat.FlowFilter{State: state}).Check())
	}
	require.ErrorContains(t, (&nat.FlowFilter{State: "opne"}).Check(), `there is no state "opne"; there are ["associated"`)
}
