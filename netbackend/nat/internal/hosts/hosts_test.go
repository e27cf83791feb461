package hosts

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

func hostMAC(n int) uint64 { return PackMAC([6]byte{2, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}) }

func hostAddr(n int) *ipaddr.Addr {
	a := ipaddr.From(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}))
	return &a
}

func TestAMACAddressIsPackedAndUnpacked(t *testing.T) {
	mac := [6]byte{0x52, 0x54, 0, 0x12, 0x34, 0xff}
	require.EqualValues(t, 0x5254001234ff, PackMAC(mac))
	require.Equal(t, mac, UnpackMAC(PackMAC(mac)))
}

func TestHostsAreToldApart(t *testing.T) {
	h := New()
	require.Zero(t, h.MAC(Any))
	first, second := h.Meet(hostMAC(1), 1), h.Meet(hostMAC(2), 2)
	require.NotEqual(t, first, second)
	require.Equal(t, first, h.Meet(hostMAC(1), 3))
	require.Equal(t, hostMAC(1), h.MAC(first))
	require.Equal(t, hostMAC(1), h.MAC(Any), "the one that was heard last")
	require.True(t, h.Is(second, hostMAC(2)))
	require.EqualValues(t, 3, h.HeardAt(hostMAC(1)))
	require.Zero(t, h.HeardAt(hostMAC(9)))

	require.Equal(t, Any, h.User(hostAddr(1)))
	require.False(t, h.Learn(hostAddr(1), first, 4))
	require.False(t, h.Learn(hostAddr(2), Any, 4), "nobody")
	require.Equal(t, first, h.User(hostAddr(1)))
	require.Zero(t, h.moves.Load())
	h.Learn(hostAddr(1), second, 5)
	require.Equal(t, second, h.User(hostAddr(1)))
	require.EqualValues(t, 1, h.moves.Load())

	h.Forget()
	require.Equal(t, Any, h.User(hostAddr(1)))
	require.Zero(t, h.MAC(Any))
	require.Equal(t, ID(1), h.Meet(hostMAC(7), 6))
}

func TestAnAddressIsAskedForNowAndThenAndFound(t *testing.T) {
	h := New()
	require.True(t, h.MayAsk(hostAddr(1), 1e9))
	require.False(t, h.MayAsk(hostAddr(1), 1e9+1))
	require.True(t, h.MayAsk(hostAddr(2), 1e9+1))
	require.True(t, h.MayAsk(hostAddr(1), 2e9))
	require.True(t, h.Learn(hostAddr(1), h.Meet(hostMAC(1), 3e9), 3e9))
	require.EqualValues(t, 1, h.news.Load())
	require.False(t, h.Learn(hostAddr(1), 1, 3e9), "only once")
}

func TestManyHostsAndAddressesAreBounded(t *testing.T) {
	h := New()
	good := h.Meet(hostMAC(0), 1)
	h.Learn(hostAddr(0), good, 1)
	for n := 1; n < 10000; n++ {
		now := int64(n + 1)
		id := h.Meet(hostMAC(n), now)
		require.LessOrEqual(t, id, ID(maxHosts))
		h.Learn(hostAddr(n), id, now)
		h.MayAsk(hostAddr(n+20000), now)
		if n%32 == 0 {
			require.Equal(t, good, h.Meet(hostMAC(0), now), "it goes on speaking, and is not forgotten")
		}
	}
	require.Equal(t, good, h.User(hostAddr(0)))
	require.LessOrEqual(t, len(h.userOf), maxHostAddrs)
	require.LessOrEqual(t, len(h.asked), maxHostAddrs)
	require.Equal(t, Any, h.User(hostAddr(1)), "its host is forgotten, and so it is")

	greedy := h.Meet(hostMAC(1), 20000)
	for n := range 2000 {
		h.Learn(hostAddr(n+30000), greedy, 20000)
	}
	require.LessOrEqual(t, len(h.userOf), maxHostAddrs)
	require.Equal(t, good, h.User(hostAddr(0)), "who has most addresses loses one of its own")
}

func TestAQueuePairLooksAUserUpWhenSomethingHasChanged(t *testing.T) {
	h := New()
	var c UserCache
	require.Equal(t, Any, c.User(h, hostAddr(1)))
	id := h.Meet(hostMAC(1), 1)
	h.Learn(hostAddr(1), id, 1)
	require.Equal(t, id, c.User(h, hostAddr(1)))
	require.Equal(t, Any, c.User(h, hostAddr(2)))
	other := h.Meet(hostMAC(2), 1)
	h.Learn(hostAddr(1), other, 1)
	require.Equal(t, other, c.User(h, hostAddr(1)))
	require.Zero(t, testing.AllocsPerRun(100, func() { c.User(h, hostAddr(1)) }))
}
