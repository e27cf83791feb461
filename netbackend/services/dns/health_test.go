package dns_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/dns"
)

// order returns the resolvers in the order in which a query is given to them at now, by the last number of their addresses.
func order(r *dns.Relay, now int64, by dns.Transport) (last []byte) {
	var asked []dns.Server
	for to, ok := r.Next(now, by, nil); ok; to, ok = r.Next(now, by, asked) {
		asked = append(asked, to)
		b := to.Addr.Addr().As4()
		last = append(last, b[3])
	}
	return last
}

// three returns a Relay with three resolvers, and their addresses.
func three(t *testing.T, lines ...string) (r *dns.Relay, addrs [3]dns.Server) {
	lines = append(lines, "nameserver 192.0.2.1", "nameserver 192.0.2.2", "nameserver 192.0.2.3")
	for i := range addrs {
		addrs[i].Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), dns.Port)
	}
	r = dns.New(dns.Config{File: resolvConf(t, lines...)})
	require.True(t, r.Knows(0, addrs[0]))
	return r, addrs
}

func TestAResolverThatFailedIsAskedLastUntilItAnswers(t *testing.T) {
	r, a := three(t)
	require.Equal(t, []byte{1, 2, 3}, order(r, 0, dns.UDP))
	require.True(t, r.Failed(0, dns.UDP, a[0]), "which is news")
	require.False(t, r.Failed(second, dns.UDP, a[0]))
	require.Equal(t, []byte{2, 3, 1}, order(r, 2*second, dns.UDP))
	require.Equal(t, []byte{2, 3, 1}, order(r, 3600*second, dns.UDP), "no query waits for it again")
	require.True(t, r.Answered(3600*second, dns.UDP, a[0]))
	require.False(t, r.Answered(3600*second, dns.UDP, a[0]))
	require.Equal(t, []byte{1, 2, 3}, order(r, 3600*second, dns.UDP))
}

func TestResolversThatAllFailedTakeTurns(t *testing.T) {
	r, a := three(t)
	for _, i := range []int{1, 0, 2} {
		r.Failed(int64(i+10)*second, dns.UDP, a[i])
	}
	require.Equal(t, []byte{1, 2, 3}, order(r, 14*second, dns.UDP), "the one that failed longest ago comes first")
	r.Failed(14*second, dns.UDP, a[0])
	require.Equal(t, []byte{2, 3, 1}, order(r, 15*second, dns.UDP))
}

func TestAResolverThatFailedIsTriedBesideAnotherOne(t *testing.T) {
	r, a := three(t)
	_, due := r.Probe(0)
	require.False(t, due, "all are good")
	r.Failed(0, dns.UDP, a[1])
	for _, at := range []int64{10, 30, 70, 150, 310, 610, 910} { // the pause is doubled, up to five minutes
		_, due = r.Probe(at*second - 1)
		require.False(t, due, "before second %d", at)
		to, due := r.Probe(at * second)
		require.True(t, due, "at second %d", at)
		require.Equal(t, a[1], to)
		_, due = r.Probe(at * second)
		require.False(t, due, "by one query only")
	}
	r.Answered(911*second, dns.UDP, a[1])
	r.Failed(1000*second, dns.UDP, a[1])
	_, due = r.Probe(1010 * second)
	require.True(t, due, "an answer makes the pause short again")
}

func TestATransportThatFailsIsNoMatterOfTheOther(t *testing.T) {
	r, a := three(t)
	r.Failed(0, dns.TCP, a[0])
	require.Equal(t, []byte{1, 2, 3}, order(r, second, dns.UDP))
	require.Equal(t, []byte{2, 3, 1}, order(r, second, dns.TCP))
	require.Equal(t, []byte{1, 2, 3}, order(r, 10*second, dns.TCP), "by TCP it is tried again after its time")
	r.Failed(10*second, dns.TCP, a[0])
	require.Equal(t, []byte{2, 3, 1}, order(r, 29*second, dns.TCP), "which is doubled")
	r.Failed(30*second, dns.UDP, a[1])
	require.Equal(t, []byte{1, 3, 2}, order(r, 300*second, dns.TCP), "a machine that answers no datagrams may be off")
}

// A name whose own servers are slow is no fault of the resolver.
func TestAResolverThatAnswersOthersIsNotSilent(t *testing.T) {
	r, a := three(t)
	r.Answered(second, dns.UDP, a[0])
	require.False(t, r.Silent(2*second, dns.UDP, a[0], second))
	require.Equal(t, []byte{1, 2, 3}, order(r, 2*second, dns.UDP))
	require.True(t, r.Silent(3*second, dns.UDP, a[0], second+1))
	require.Equal(t, []byte{2, 3, 1}, order(r, 3*second, dns.UDP))
	require.True(t, r.Silent(3*second, dns.UDP, a[1], 0), "nor has one that never answered")
}

func TestResolversTakeTurnsIfTheFileSaysSo(t *testing.T) {
	r, a := three(t, "options rotate")
	require.Equal(t, []byte{1, 2, 3}, order(r, 0, dns.UDP))
	require.Equal(t, []byte{2, 3, 1}, order(r, 0, dns.UDP))
	r.Failed(0, dns.UDP, a[2])
	require.Equal(t, []byte{1, 2, 3}, order(r, 0, dns.UDP))
	require.Equal(t, []byte{1, 2, 3}, order(r, 0, dns.UDP))
	require.Equal(t, []byte{2, 1, 3}, order(r, 0, dns.UDP))
}

func TestPatienceIsThatOfTheFileWithinBounds(t *testing.T) {
	for line, want := range map[string]time.Duration{
		"":                   1500 * time.Millisecond,
		"options timeout:1":  time.Second,
		"options timeout:3":  3 * time.Second,
		"options timeout:30": 5 * time.Second,
		"options timeout:0":  1500 * time.Millisecond,
		"options timeout:x":  1500 * time.Millisecond,
	} {
		r, _ := three(t, line)
		order(r, 0, dns.UDP)
		require.Equal(t, want, r.Patience(), line)
	}
}

func TestWhatIsKnownOfAResolverOutlivesAChangeOfTheFile(t *testing.T) {
	file := resolvConf(t, "nameserver 192.0.2.1", "nameserver 192.0.2.2")
	r := dns.New(dns.Config{File: file})
	one := dns.Server{Addr: netip.MustParseAddrPort("192.0.2.1:53")}
	require.Equal(t, []byte{1, 2}, order(r, 0, dns.UDP))
	r.Failed(0, dns.UDP, one)
	write(t, file, "nameserver 192.0.2.1", "nameserver 192.0.2.3")
	require.Equal(t, []byte{3, 1}, order(r, second, dns.UDP))
	require.True(t, r.Knows(second, one))
	require.False(t, r.Knows(second, dns.Server{Addr: netip.MustParseAddrPort("192.0.2.2:53")}))
}

func TestResolversAreForgivenTogether(t *testing.T) {
	r, a := three(t)
	r.Failed(0, dns.UDP, a[0])
	r.Failed(0, dns.TCP, a[1])
	require.Equal(t, []byte{2, 3, 1}, order(r, second, dns.UDP))
	r.Forgive()
	require.Equal(t, []byte{1, 2, 3}, order(r, second, dns.UDP))
	require.Equal(t, []byte{1, 2, 3}, order(r, second, dns.TCP))
	require.True(t, r.Failed(second, dns.UDP, a[0]), "which is news again")
}

func TestWhatIsKnownOfResolversIsTold(t *testing.T) {
	r, a := three(t, "options timeout:3")
	r.Failed(second, dns.UDP, a[0])
	r.Answered(2*second, dns.TCP, a[1])
	s := r.State(4 * second)
	require.NotEmpty(t, s.File)
	require.Equal(t, 3*time.Second, s.Patience)
	require.Equal(t, []dns.ResolverState{
		{Server: a[0], UDP: dns.HealthState{Failed: true, Ago: 3 * time.Second, Again: 7 * time.Second}},
		{Server: a[1], First: true, Answered: true, Ago: 2 * time.Second},
		{Server: a[2]},
	}, s.Resolvers)
	require.Zero(t, r.State(1000 * second).Resolvers[0].UDP.Again)
	r.Use([]dns.Server{a[2]}, "")
	require.Empty(t, r.State(4*second).File)
	require.True(t, r.State(4 * second).Resolvers[0].First)
	require.Empty(t, dns.New(dns.Config{}).State(0).Resolvers)
}
