package nat

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/porttest"
)

func TestTheHostOfAFlowCostsItsRecordNothing(t *testing.T) {
	record := reflect.TypeFor[shard.Flow]()
	at := func(name string) uintptr {
		field, found := record.FieldByName(name)
		require.True(t, found)
		return field.Offset
	}
	require.Equal(t, at("ipLen")+1, at("host"))
	require.EqualValues(t, 40, at("index"), "it stands where the compiler would leave a byte unused")
}

// What a flow takes is what the garbage collector has nothing to look for in.
func TestRecordsAndStatesOfFlowsHoldNoPointers(t *testing.T) {
	for _, typ := range []reflect.Type{
		reflect.TypeFor[shard.Flow](), reflect.TypeFor[tcpFlow](), reflect.TypeFor[udpFlow](), reflect.TypeFor[pingRequest](),
	} {
		require.False(t, holdsPointers(typ), typ)
	}
}

// holdsPointers reports whether values of a type hold pointers.
func holdsPointers(typ reflect.Type) bool {
	switch typ.Kind() {
	case reflect.Struct:
		for i := range typ.NumField() {
			if holdsPointers(typ.Field(i).Type) {
				return true
			}
		}
		return false
	case reflect.Array:
		return holdsPointers(typ.Elem())
	}
	return typ.Kind() > reflect.Complex128 // all that are simple come before it
}

// What all flows have, beside their entry in the table (52 bytes) and their timer (24).
func TestTheRecordOfAFlowIsNoLargerThanItHasToBe(t *testing.T) {
	require.LessOrEqual(t, reflect.TypeFor[shard.Flow]().Size(), uintptr(104))
}

// A guest pays for the protocols that it speaks.
func TestFlowsTakeMemoryForTheirOwnProtocolOnly(t *testing.T) {
	cfg := DefaultConfig()
	cfg.ResolvConf = ""
	p, err := New(cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	p.shard.Worker = porttest.DeafWorker{}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	key := flowtable.Key{Guest: ipaddr.From(cfg.Guest), GuestPort: 1024, RemotePort: 9, Proto: netpkt.UDP}
	f, _ := p.turn.CreateWith(&key, fd, shard.StateActive, 0, shard.ClassAssociations, p.udp.begin(udpFlow{via: 7}))
	require.NotNil(t, f)
	require.EqualValues(t, 7, p.udp.of(f).via)
	require.Panics(t, func() { p.tcp.conn(f) }, "there is no memory for connections")
	require.Panics(t, func() { p.ping.requests.At(f.Index) })
}

func TestThePoolIsTheEndOfTheNetwork(t *testing.T) {
	for network, want := range map[string]string{
		"10.0.2.0/24": "10.0.2.191 64", "10.0.2.32/27": "10.0.2.48 15", "10.0.0.0/8": "10.255.255.191 64",
	} {
		first, count := pool4(netip.MustParsePrefix(network))
		require.Equal(t, want, first.String()+" "+map[int]string{64: "64", 15: "15"}[count], network)
	}
}
