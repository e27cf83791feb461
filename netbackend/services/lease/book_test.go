package lease_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/lease"
)

var (
	primary = netip.MustParseAddr("10.0.2.15")
	router  = netip.MustParseAddr("10.0.2.200")
	nobody  netip.Addr
)

// link is a Book, and what is known of the link.
type link struct {
	*lease.Book
	t     *testing.T
	now   int64
	users map[netip.Addr][6]byte
	heard map[[6]byte]int64
}

// newLink has a pool from .192 to .199, and the router behind it, at .200.
func newLink(t *testing.T, change ...func(*lease.Config)) *link {
	l := &link{t: t, now: 1e12, users: map[netip.Addr][6]byte{}, heard: map[[6]byte]int64{}}
	cfg := lease.Config{
		Primary: primary, First: netip.MustParseAddr("10.0.2.192"), Count: 9, Never: []netip.Addr{router},
		User:  func(a netip.Addr) [6]byte { return l.users[a] },
		Heard: func(mac [6]byte) int64 { return l.heard[mac] },
	}
	for _, c := range change {
		c(&cfg)
	}
	l.Book = lease.New(cfg)
	return l
}

func client(n byte) lease.Client { return lease.Client{MAC: [6]byte{2, 0, 0, 0, 0, n}} }

// attempt has c ask for an address as often as it is told to, while the host of the promised address answers.
func (l *link) attempt(c lease.Client) (netip.Addr, lease.Outcome) {
	a, outcome := l.Take(l.now, c, nobody)
	if outcome == lease.Ask {
		l.answers()
		a, outcome = l.Take(l.now, c, nobody)
	}
	return a, outcome
}

// answers lets the hosts 1 to 9 be heard.
func (l *link) answers() {
	l.now++
	for n := byte(1); n < 10; n++ {
		l.heard[client(n).MAC] = l.now
	}
	l.now++
}

// takes requires that c gets an address, and returns it.
func (l *link) takes(c lease.Client) netip.Addr {
	l.t.Helper()
	a, outcome := l.attempt(c)
	require.Equal(l.t, lease.Given, outcome)
	return a
}

// second has the host of the promised address answer when it is asked for, and returns what another one gets.
func (l *link) second(c lease.Client) netip.Addr {
	l.t.Helper()
	l.takes(client(1))
	_, outcome := l.Take(l.now, c, nobody)
	require.Equal(l.t, lease.Ask, outcome)
	l.heard[client(1).MAC] = l.now + 1
	l.now += int64(2 * time.Second)
	return l.takes(c)
}

func TestTheFirstHostGetsThePromisedAddressAndOthersOneOfThePool(t *testing.T) {
	l := newLink(t)
	require.Equal(t, primary, l.takes(client(1)))
	second := l.second(client(2))
	require.False(t, second.Less(netip.MustParseAddr("10.0.2.192")), second)
	third := l.takes(client(3))
	require.NotEqual(t, second, third)
	require.NotEqual(t, primary, third)
	require.Equal(t, primary, l.takes(client(1)))
	require.Equal(t, second, l.takes(client(2)), "each keeps its own")
	require.True(t, l.Permanent(primary))
	require.False(t, l.Permanent(second))
}

func TestAHostKeepsItsAddressWhateverItCallsItself(t *testing.T) {
	l := newLink(t)
	c := client(1)
	for _, name := range []string{"", "boot program", "system"} {
		c.ID = l.ID([]byte(name))
		require.Equal(t, primary, l.takes(c))
	}
	other := client(2)
	pooled := l.second(other)
	other.ID = 7
	require.Equal(t, pooled, l.takes(other))
	l.Release(c, primary)
	l.now += int64(48 * time.Hour)
	require.Equal(t, primary, l.takes(client(1)))
}

func TestThePromisedAddressMovesWhenItsHostIsGone(t *testing.T) {
	l := newLink(t)
	l.takes(client(1))
	_, outcome := l.Offer(l.now, client(2), nobody)
	require.Equal(t, lease.Ask, outcome)
	l.now += int64(time.Second / 2)
	_, outcome = l.Offer(l.now, client(2), nobody)
	require.Equal(t, lease.Wait, outcome, "it has time to answer")
	l.now += int64(time.Second)
	require.Equal(t, primary, l.takes(client(2)))
	require.Equal(t, primary, l.takes(client(2)))

	l.now += int64(time.Minute)
	_, outcome = l.Take(l.now, client(1), nobody)
	require.Equal(t, lease.Ask, outcome, "the one that was gone is any other now")
}

func TestAHostThatUsesThePromisedAddressWithoutALeaseKeepsIt(t *testing.T) {
	l := newLink(t)
	l.users[primary] = client(1).MAC
	require.NotEqual(t, primary, l.takes(client(2)))
	require.Equal(t, primary, l.takes(client(1)))
}

// Linux answers by each of its network cards for all of its addresses. So the second card of a machine seems to use the address of the first.
func TestWhoAnswersForThePromisedAddressBesideItsHostDoesNotGetIt(t *testing.T) {
	l := newLink(t)
	l.takes(client(1))
	_, outcome := l.Offer(l.now, client(2), nobody)
	require.Equal(t, lease.Ask, outcome)
	l.now++
	l.heard[client(1).MAC], l.heard[client(2).MAC] = l.now, l.now
	l.users[primary] = client(2).MAC // the answer that came last
	require.NotEqual(t, primary, l.takes(client(2)))
	require.Equal(t, primary, l.takes(client(1)))
}

func TestTheHostThatTakesAnAddressOverKeepsItsLease(t *testing.T) {
	l := newLink(t)
	second := l.second(client(2))
	l.users[primary], l.users[second] = client(7).MAC, client(8).MAC // as after the failover of a bond
	_, outcome := l.Take(l.now, client(7), primary)
	require.Equal(t, lease.Ask, outcome, "the host that it was given to may be there")
	l.now += int64(time.Second)
	require.Equal(t, primary, l.takes(client(7)))
	a, outcome := l.Take(l.now, client(8), second)
	require.Equal(t, lease.Given, outcome)
	require.Equal(t, second, a)
}

func TestAnotherGuestGetsThePromisedAddressAtOnce(t *testing.T) {
	l := newLink(t)
	l.takes(client(1))
	l.Free()
	require.Equal(t, primary, l.takes(client(2)))
}

func TestAnAddressOfThePoolIsGivenToWhoAsksForIt(t *testing.T) {
	l := newLink(t)
	want := netip.MustParseAddr("10.0.2.197")
	a, outcome := l.Take(l.now, client(2), want)
	require.Equal(t, lease.Given, outcome)
	require.Equal(t, want, a, "the host had it before vring was restarted")
	require.Equal(t, primary, l.takes(client(1)))
	a, _ = l.Take(l.now, client(3), want)
	require.NotEqual(t, want, a)
	for _, bad := range []string{"10.0.2.191", "10.0.2.201", "10.0.2.200", "192.168.1.7", "::1", "10.0.2.15"} {
		a, _ := l.Take(l.now, client(9), netip.MustParseAddr(bad))
		require.NotEqual(t, netip.MustParseAddr(bad), a)
	}
}

func TestAddressesThatAreInUseAreNotGiven(t *testing.T) {
	l := newLink(t)
	for n := byte(192); n < 199; n++ {
		l.users[netip.AddrFrom4([4]byte{10, 0, 2, n})] = client(n).MAC
	}
	require.Equal(t, netip.MustParseAddr("10.0.2.199"), l.second(client(2)), "the only one; the router's is never given")
	_, outcome := l.attempt(client(3))
	require.Equal(t, lease.None, outcome)
}

func TestTheConfigurationFixesAddresses(t *testing.T) {
	fixed, pooled := netip.MustParseAddr("10.0.2.50"), netip.MustParseAddr("10.0.2.193")
	l := newLink(t, func(c *lease.Config) {
		c.Fixed = map[[6]byte]netip.Addr{client(5).MAC: fixed, client(6).MAC: pooled, client(7).MAC: primary}
	})
	require.Equal(t, fixed, l.takes(client(5)))
	require.Equal(t, pooled, l.takes(client(6)))
	seen := map[netip.Addr]bool{}
	for n := byte(10); n < 17; n++ {
		seen[l.takes(client(n))] = true
	}
	require.Len(t, seen, 7)
	require.False(t, seen[primary], "it is another host's by the configuration")
	require.False(t, seen[pooled])
	require.Equal(t, primary, l.takes(client(7)))
	require.True(t, l.Permanent(fixed))
}

func TestADeclinedAddressIsNotGivenToTheSameHostForAWhile(t *testing.T) {
	l := newLink(t)
	parent, child := client(1), client(1) // two that share a MAC address, as with ipvlan
	child.ID = 7
	require.Equal(t, primary, l.takes(parent))
	require.Equal(t, primary, l.takes(child))
	require.False(t, l.Decline(l.now, child, router), "not its address")
	require.True(t, l.Decline(l.now, child, primary))
	pooled := l.takes(child)
	require.NotEqual(t, primary, pooled)
	require.Equal(t, primary, l.takes(parent))
	require.Equal(t, pooled, l.takes(child))

	require.True(t, l.Decline(l.now, child, pooled))
	require.NotContains(t, []netip.Addr{primary, pooled}, l.takes(child))

	alone := newLink(t)
	alone.takes(client(1))
	require.True(t, alone.Decline(alone.now, client(1), primary))
	pooled = alone.takes(client(1))
	require.NotEqual(t, primary, pooled)
	alone.Release(client(1), pooled)
	alone.now += int64(11 * time.Minute)
	require.Equal(t, primary, alone.takes(client(1)))
}

func TestManyHostsExhaustThePoolAndNothingElse(t *testing.T) {
	l := newLink(t)
	l.second(client(2))
	given := map[netip.Addr]bool{primary: true}
	for n := range 300 {
		c := lease.Client{MAC: [6]byte{4, 0, 0, 0, byte(n >> 8), byte(n)}, ID: uint64(n)}
		_, _ = l.Offer(l.now, c, nobody)
		l.answers()
		a, outcome := l.Offer(l.now, c, nobody)
		if outcome == lease.Given {
			given[a] = true
		}
	}
	require.Len(t, given, 8, "the promised address, and the pool without the router and the second host's")
	require.Equal(t, primary, l.takes(client(1)))
	l.now += int64(61 * time.Second)
	_, outcome := l.attempt(client(9))
	require.Equal(t, lease.Given, outcome, "what was only offered is free again")
}

func TestAReleasedAddressIsFree(t *testing.T) {
	l := newLink(t, func(c *lease.Config) { c.Count = 1 })
	a := l.second(client(2))
	_, outcome := l.attempt(client(3))
	require.Equal(t, lease.None, outcome)
	l.Release(client(3), a)
	_, outcome = l.attempt(client(3))
	require.Equal(t, lease.None, outcome, "it is not the other one's to give back")
	l.Release(client(2), a)
	require.Equal(t, a, l.takes(client(3)))
	l.now += int64(lease.PoolTime) + 1
	require.Equal(t, a, l.takes(client(4)), "a lease that was not renewed is over")
}

func TestAPoolMayLieAnywhereInANetwork(t *testing.T) {
	l := newLink(t, func(c *lease.Config) {
		c.Primary, c.First, c.Count = netip.MustParseAddr("fd00::15"), netip.MustParseAddr("fd00::1:fe"), 4
	})
	seen := map[string]bool{}
	for n := byte(1); n < 5; n++ {
		a, _ := l.Take(l.now, client(n), netip.MustParseAddr(fmt.Sprintf("fd00::1:%x", 0xfd+int(n))))
		seen[a.String()] = true
	}
	require.Equal(t, map[string]bool{"fd00::1:fe": true, "fd00::1:ff": true, "fd00::1:100": true, "fd00::1:101": true}, seen)
}

// While a guest is paused its clock stands still: its hosts believe that they have their addresses for longer than the Book does.
func TestALeaseThatHasRunOutGoesToOthersLast(t *testing.T) {
	for range 20 { // which address is whose is another matter each time
		l := newLink(t)
		paused := l.second(client(2))
		l.now += int64(lease.PoolTime + time.Hour)
		for n := byte(3); n < 10; n++ { // the pool has eight
			require.NotEqual(t, paused, l.second(client(n)), "there are others that nobody has had")
		}
		require.Equal(t, paused, l.takes(client(2)), "its own is renewed, however late it asks")
		l.now += int64(lease.PoolTime + time.Hour)
		for n := byte(10); n < 18; n++ {
			l.second(client(n)) // those that have run out are better than none
		}
	}
}

func TestLeasesAreListed(t *testing.T) {
	fixed := client(7)
	l := newLink(t, func(c *lease.Config) {
		c.Fixed = map[[6]byte]netip.Addr{fixed.MAC: netip.MustParseAddr("10.0.2.50")}
	})
	require.Len(t, l.Leases(l.now), 1)
	first, second, offered := client(1), client(2), client(3)
	a, outcome := l.Take(l.now, first, nobody)
	require.Equal(t, lease.Given, outcome)
	require.Equal(t, primary, a)
	l.SetName(first.MAC, "one")
	l.SetName(fixed.MAC, strings.Repeat("x", 1000))
	l.SetName(first.MAC, "")
	b, outcome := l.Take(l.now, second, netip.MustParseAddr("10.0.2.192"))
	require.Equal(t, lease.Given, outcome)
	_, outcome = l.Offer(l.now, offered, netip.MustParseAddr("10.0.2.199"))
	require.Equal(t, lease.Given, outcome)
	require.Equal(t, []lease.Lease{
		{Addr: primary, MAC: first.MAC, Name: "one"},
		{Addr: netip.MustParseAddr("10.0.2.50"), MAC: fixed.MAC, Name: strings.Repeat("x", 255), Fixed: true},
		{Addr: b, MAC: second.MAC, Left: lease.PoolTime},
		{Addr: netip.MustParseAddr("10.0.2.199"), MAC: offered.MAC, Left: time.Minute},
	}, l.Leases(l.now))
	l.now += int64(time.Hour)
	require.Len(t, l.Leases(l.now), 3, "what was offered only is over")
	l.now += int64(2 * time.Hour)
	require.Len(t, l.Leases(l.now), 2, "the first one keeps its address")
}

func TestAGuestThatCallsItselfByManyNamesCostsNoMemory(t *testing.T) {
	l := newLink(t)
	a, _ := l.Take(l.now, client(1), nobody)
	require.Equal(t, primary, a)
	for i := range 100000 {
		l.SetName([6]byte{4, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)}, "name")
	}
	l.SetName(client(1).MAC, "one")
	require.Equal(t, "one", l.Leases(l.now)[0].Name)
	require.Less(t, l.Names(), 300)
}
