package nat

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

func hostMAC(n int) uint64 { return packMAC([6]byte{2, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}) }

func hostAddr(n int) *ipaddr.Addr {
	a := ipaddr.From(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}))
	return &a
}

func TestAMACAddressIsPackedAndUnpacked(t *testing.T) {
	mac := [6]byte{0x52, 0x54, 0, 0x12, 0x34, 0xff}
	require.EqualValues(t, 0x5254001234ff, packMAC(mac))
	require.Equal(t, mac, unpackMAC(packMAC(mac)))
}

func TestHostsAreToldApart(t *testing.T) {
	h := newHosts()
	require.Zero(t, h.mac(anyHost))
	first, second := h.meet(hostMAC(1), 1), h.meet(hostMAC(2), 2)
	require.NotEqual(t, first, second)
	require.Equal(t, first, h.meet(hostMAC(1), 3))
	require.Equal(t, hostMAC(1), h.mac(first))
	require.Equal(t, hostMAC(1), h.mac(anyHost), "the one that was heard last")
	require.True(t, h.is(second, hostMAC(2)))
	require.EqualValues(t, 3, h.heardAt(hostMAC(1)))
	require.Zero(t, h.heardAt(hostMAC(9)))

	require.Equal(t, anyHost, h.user(hostAddr(1)))
	require.False(t, h.learn(hostAddr(1), first, 4))
	require.False(t, h.learn(hostAddr(2), anyHost, 4), "nobody")
	require.Equal(t, first, h.user(hostAddr(1)))
	require.Zero(t, h.moves.Load())
	h.learn(hostAddr(1), second, 5)
	require.Equal(t, second, h.user(hostAddr(1)))
	require.EqualValues(t, 1, h.moves.Load())

	h.forget()
	require.Equal(t, anyHost, h.user(hostAddr(1)))
	require.Zero(t, h.mac(anyHost))
	require.Equal(t, hostID(1), h.meet(hostMAC(7), 6))
}

func TestAnAddressIsAskedForNowAndThenAndFound(t *testing.T) {
	h := newHosts()
	require.True(t, h.mayAsk(hostAddr(1), 1e9))
	require.False(t, h.mayAsk(hostAddr(1), 1e9+1))
	require.True(t, h.mayAsk(hostAddr(2), 1e9+1))
	require.True(t, h.mayAsk(hostAddr(1), 2e9))
	require.True(t, h.learn(hostAddr(1), h.meet(hostMAC(1), 3e9), 3e9))
	require.EqualValues(t, 1, h.news.Load())
	require.False(t, h.learn(hostAddr(1), 1, 3e9), "only once")
}

func TestManyHostsAndAddressesAreBounded(t *testing.T) {
	h := newHosts()
	good := h.meet(hostMAC(0), 1)
	h.learn(hostAddr(0), good, 1)
	for n := 1; n < 10000; n++ {
		now := int64(n + 1)
		id := h.meet(hostMAC(n), now)
		require.LessOrEqual(t, id, hostID(maxHosts))
		h.learn(hostAddr(n), id, now)
		h.mayAsk(hostAddr(n+20000), now)
		if n%32 == 0 {
			require.Equal(t, good, h.meet(hostMAC(0), now), "it goes on speaking, and is not forgotten")
		}
	}
	require.Equal(t, good, h.user(hostAddr(0)))
	require.LessOrEqual(t, len(h.userOf), maxHostAddrs)
	require.LessOrEqual(t, len(h.asked), maxHostAddrs)
	require.Equal(t, anyHost, h.user(hostAddr(1)), "its host is forgotten, and so it is")

	greedy := h.meet(hostMAC(1), 20000)
	for n := range 2000 {
		h.learn(hostAddr(n+30000), greedy, 20000)
	}
	require.LessOrEqual(t, len(h.userOf), maxHostAddrs)
	require.Equal(t, good, h.user(hostAddr(0)), "who has most addresses loses one of its own")
}

func TestAQueuePairLooksAUserUpWhenSomethingHasChanged(t *testing.T) {
	h := newHosts()
	var c userCache
	require.Equal(t, anyHost, c.user(h, hostAddr(1)))
	id := h.meet(hostMAC(1), 1)
	h.learn(hostAddr(1), id, 1)
	require.Equal(t, id, c.user(h, hostAddr(1)))
	require.Equal(t, anyHost, c.user(h, hostAddr(2)))
	other := h.meet(hostMAC(2), 1)
	h.learn(hostAddr(1), other, 1)
	require.Equal(t, other, c.user(h, hostAddr(1)))
	require.Zero(t, testing.AllocsPerRun(100, func() { c.user(h, hostAddr(1)) }))
}

func TestTheHostOfAFlowCostsItsRecordNothing(t *testing.T) {
	record := reflect.TypeFor[flow]()
	at := func(name string) uintptr {
		field, found := record.FieldByName(name)
		require.True(t, found)
		return field.Offset
	}
	require.Equal(t, at("ipLen")+1, at("host"))
	require.EqualValues(t, 40, at("gen"), "it stands where the compiler would leave a byte unused")
}

func TestThePoolIsTheEndOfTheNetwork(t *testing.T) {
	for network, want := range map[string]string{
		"10.0.2.0/24": "10.0.2.191 64", "10.0.2.32/27": "10.0.2.48 15", "10.0.0.0/8": "10.255.255.191 64",
	} {
		first, count := pool4(netip.MustParsePrefix(network))
		require.Equal(t, want, first.String()+" "+map[int]string{64: "64", 15: "15"}[count], network)
	}
}
