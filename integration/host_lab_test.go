package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/netns"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/qemu"
	"github.com/vringnet/vring/integration/lab/tcpdump"
	"github.com/vringnet/vring/integration/lab/uml"
	"github.com/vringnet/vring/integration/lab/userland"
)

// host is a network namespace that stands for a host: it has bridges and wires of its own, and vring runs in it.
type host struct {
	*netns.Namespace
	t *testing.T
}

func newHost(t *testing.T) *host {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	n, err := netns.New()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return &host{n, t}
}

// run runs command lines on the host, and returns what the last one prints.
func (h *host) run(lines ...string) (output string) {
	h.t.Helper()
	for _, line := range lines {
		var err error
		output, err = h.Run(line)
		require.NoError(h.t, err)
	}
	return output
}

// wire connects two hosts by a pair of interfaces, which are up and called name on both.
func (h *host) wire(name string, other *host) {
	h.t.Helper()
	h.run("ip link add "+name+" type veth peer name "+name+" netns "+other.Path(), "ip link set "+name+" up")
	other.run("ip link set " + name + " up")
}

// startTAP starts vring on the host.
func (h *host) startTAP(tap string, args ...string) *daemon {
	return startVringWith(h.t, process.Options{Thread: h.Enter}, "tap", append([]string{"--tap", tap}, args...)...)
}

// record begins to record the frames that pass an interface of the host.
func (h *host) record(ctx context.Context, device, filter string) *tcpdump.Recording {
	h.t.Helper()
	r, err := tcpdump.Start(ctx, tcpdump.Options{Namespace: h.Namespace, Interface: device, Filter: filter, Dir: shortDir(h.t)})
	require.NoError(h.t, err)
	h.t.Cleanup(func() { require.NoError(h.t, r.Kill()) })
	return r
}

// recorded ends a recording and returns its frames. What the recorder has missed is no fault of vring, and what a test
// expects of frames it must find in those that are there.
func recorded(t *testing.T, r *tcpdump.Recording) []tcpdump.Frame {
	t.Helper()
	frames, missed, err := r.Stop()
	require.NoError(t, err)
	t.Logf("recorded %d frames, missed %d", len(frames), missed)
	return frames
}

// linkState is what iproute2 tells of an interface.
type linkState struct {
	Name   string   `json:"ifname"`
	MTU    int      `json:"mtu"`
	Master string   `json:"master"`
	MAC    string   `json:"address"`
	Flags  []string `json:"flags"`
}

// links returns the state of all interfaces of the host.
func (h *host) links() []linkState {
	h.t.Helper()
	var all []linkState
	require.NoError(h.t, json.Unmarshal([]byte(h.run("ip -json link show")), &all))
	return all
}

// link returns the state of an interface of the host; found is false if there is none.
func (h *host) link(name string) (state linkState, found bool) {
	h.t.Helper()
	for _, l := range h.links() {
		if l.Name == name {
			return l, true
		}
	}
	return linkState{}, false
}

// station is a guest of a lab: 192.0.2.N and fd00::N.
type station struct {
	*testGuest
	t      *testing.T
	ctx    context.Context
	vring  *daemon
	number int
	before []string // command lines that it runs before its card goes up
	mac    string
}

// newUMLStation starts User-mode Linux behind a vring. It has not booted yet: see boot.
func newUMLStation(ctx context.Context, t *testing.T, u userland.Userland, vring *daemon, number int) *station {
	g := startUML(ctx, t, uml.Options{Userland: u, Initrd: built.image(u, true, true), Socket: vring.Socket})
	return &station{testGuest: g, t: t, ctx: ctx, vring: vring, number: number}
}

// newQEMUStation starts QEMU behind a vring, with as many queue pairs and more properties of the network card.
func newQEMUStation(ctx context.Context, t *testing.T, u userland.Userland, vring *daemon, number, queues int, device ...string,
) *station {
	g := startQEMU(ctx, t, qemu.Options{
		Userland: u, Initrd: built.image(u, false, true), Socket: vring.Socket, Reconnect: true, Queues: queues,
		Device: append(device, fmt.Sprintf("mac=52:54:00:00:00:%02x", number)),
	})
	return &station{testGuest: g, t: t, ctx: ctx, vring: vring, number: number}
}

// boot waits until the guest has booted, and gives it its addresses.
func (s *station) boot() *station {
	s.t.Helper()
	_, err := s.WaitBoot(s.ctx)
	require.NoError(s.t, err)
	s.run(s.before...)
	s.run("ip address add "+s.v4()+"/24 dev "+card, "ip -6 address add "+s.v6()+"/64 dev "+card+" nodad")
	require.NoError(s.t, s.Do(s.ctx, nil, "up", card))
	s.mac = s.link().MAC
	return s
}

func (s *station) v4() string { return fmt.Sprintf("192.0.2.%d", s.number) }
func (s *station) v6() string { return fmt.Sprintf("fd00::%d", s.number) }

// do runs a command in the guest.
func (s *station) do(result any, command string, args ...any) {
	s.t.Helper()
	require.NoError(s.t, s.Do(s.ctx, result, command, args...))
}

// start begins to run a command line in the guest.
func (s *station) start(line string) *guest.Call {
	var args []any
	for _, word := range strings.Fields(line) {
		args = append(args, word)
	}
	return s.Start("run", args...)
}

// run runs command lines in the guest and returns what the last one prints.
func (s *station) run(lines ...string) string {
	s.t.Helper()
	var out proto.Text
	for _, line := range lines {
		require.NoError(s.t, s.start(line).Wait(s.ctx, &out))
	}
	return out.Text
}

// link returns the state and the counters of the guest's network card.
func (s *station) link() proto.Link {
	s.t.Helper()
	var l proto.Link
	s.do(&l, "link", card)
	return l
}

// waitCarrier waits until the guest sees its cable plugged or unplugged.
func (s *station) waitCarrier(want bool) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.link().Carrier == want }, soon, 10*time.Millisecond)
}

// requirePing pings an address with a payload of a size.
func (s *station) requirePing(address string, size int) {
	s.t.Helper()
	var echoes proto.Echoes
	s.do(&echoes, "ping", address, 3, size)
	require.Equal(s.t, proto.Echoes{Sent: 3, Answered: 3}, echoes, "ping %s with %d bytes", address, size)
}

// waitPing pings an address until it answers.
func (s *station) waitPing(address string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		var echoes proto.Echoes
		s.do(&echoes, "ping", address, 1, 0)
		return echoes.Answered == 1
	}, soon, time.Millisecond)
}

// requireReach proves that two guests are on one link: they answer each other's pings, and know each other's MAC address
// by ARP and by neighbour discovery.
func (s *station) requireReach(other *station) {
	s.t.Helper()
	for _, address := range []string{other.v4(), other.v6()} {
		s.requirePing(address, 56)
		require.Contains(s.t, s.run("ip neighbour show to "+address+" dev "+card), "lladdr "+other.mac)
	}
}

// requireTransfer sends test data both ways at once between two guests, to an address of the other.
func (s *station) requireTransfer(other *station, address string, n int64) {
	s.t.Helper()
	listen := other.Start("tcp-listen", guestTCPPort, n, hostSeed)
	require.NoError(s.t, listen.Event(s.ctx, nil))
	var here, there proto.Transfer
	s.do(&here, "tcp-dial", fmt.Sprintf("%s:%d", address, guestTCPPort), n, guestSeed)
	require.NoError(s.t, listen.Event(s.ctx, &there))
	require.NoError(s.t, listen.Wait(s.ctx, nil))
	requirePattern(s.t, hostSeed, n, here)
	requirePattern(s.t, guestSeed, n, there)
}

// iperf is what iperf3 tells in JSON.
type iperf struct {
	End struct {
		Received struct {
			Bytes int64   `json:"bytes"`
			Rate  float64 `json:"bits_per_second"`
		} `json:"sum_received"`
	} `json:"end"`
}

// requireIperf runs iperf3 for a second from this guest to another at an address, or with "-R" the other way.
func (s *station) requireIperf(other *station, address, args string) {
	s.t.Helper()
	server := other.start("iperf3 -s -1")
	var result iperf
	require.Eventually(s.t, func() bool { // until the server listens; in JSON a client's failure is a result, too
		out := s.run("iperf3 -J -i 0 -t 1 -c " + address + " " + args)
		return json.Unmarshal([]byte(out), &result) == nil && result.End.Received.Bytes > 0
	}, soon, tick)
	require.NoError(s.t, server.Wait(s.ctx, nil))
	s.t.Logf("iperf3 to %s %s: %.2f Gbit/s", address, args, result.End.Received.Rate/1e9)
}

// counter is a line of the status that vring prints on SIGUSR1.
var counter = regexp.MustCompile(`(?m)^ +([a-z][a-z0-9_]*) +(\d+) *$`)

// counters returns what vring has counted, with one queue pair.
func (d *daemon) counters() counters {
	d.t.Helper()
	return d.countersOf(1)[0]
}

// countersOf returns what vring has counted for each of its queue pairs.
func (d *daemon) countersOf(pairs int) []counters {
	d.t.Helper()
	told := func() []string {
		all := strings.Split(d.Output(), "\nguest ")[1:]
		return slices.DeleteFunc(all, func(s string) bool { return strings.Contains(s, "its flows are not known") }) // on a busy machine
	}
	before := len(told())
	require.NoError(d.t, d.Signal(syscall.SIGUSR1))
	var reports []string
	require.Eventually(d.t, func() bool {
		reports = told()
		return len(reports) == before+pairs && strings.HasSuffix(reports[len(reports)-1], "\n")
	}, soon, time.Millisecond, "no status")
	var all []counters
	for _, report := range reports[before:] {
		counted := map[string]uint64{}
		for _, match := range counter.FindAllStringSubmatch(report, -1) {
			n, err := strconv.ParseUint(match[2], 10, 64)
			require.NoError(d.t, err)
			counted[match[1]] = n
		}
		all = append(all, counters{counted})
	}
	return all
}

// waitCounter waits until a counter is above a value.
func (d *daemon) waitCounter(name string, above uint64) {
	d.t.Helper()
	require.Eventually(d.t, func() bool { return d.counters().of(d.t, name) > above }, soon, 200*time.Millisecond, "counter %s", name)
}

// waitCounterOfEach waits until a counter of each queue pair is above a value.
func (d *daemon) waitCounterOfEach(pairs int, name string, above uint64) {
	d.t.Helper()
	require.Eventually(d.t, func() bool {
		return !slices.ContainsFunc(d.countersOf(pairs), func(c counters) bool { return c.of(d.t, name) <= above })
	}, soon, 200*time.Millisecond, "counter %s of each queue pair", name)
}

// waitLog waits until vring has logged a text so many times.
func (d *daemon) waitLog(text string, times int) {
	d.t.Helper()
	require.Eventually(d.t, func() bool { return strings.Count(d.Output(), text) >= times }, soon, 5*time.Millisecond,
		"not logged: %s", text)
}

// tick is how often a condition is looked at that costs a program to look at.
const tick = 20 * time.Millisecond

// carrier tells whether an interface of the host has one.
func (h *host) carrier(name string) bool {
	h.t.Helper()
	state, found := h.link(name)
	require.True(h.t, found, "interface %s", name)
	return !slices.Contains(state.Flags, "NO-CARRIER")
}
