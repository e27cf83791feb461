package flowtable

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// keys are a key and those that differ from it in one field, in each byte of it.
func keys(t *testing.T) (k Key, others []Key) {
	k = Key{
		Guest: ipaddr.From4([]byte{10, 0, 2, 15}), Remote: ipaddr.From4([]byte{192, 0, 2, 1}), GuestPort: 1024, RemotePort: 443, Proto: 6,
	}
	for i := range reflect.TypeFor[Key]().NumField() {
		field := func(k *Key) reflect.Value { return reflect.ValueOf(k).Elem().Field(i) }
		switch field(&k).Kind() {
		case reflect.Array:
			for j := range field(&k).Len() {
				other := k
				b := field(&other).Index(j)
				b.SetUint(b.Uint() ^ 1)
				others = append(others, other)
			}
		default:
			for bit := range field(&k).Type().Bits() {
				other := k
				field(&other).SetUint(field(&k).Uint() ^ 1<<bit)
				others = append(others, other)
			}
		}
	}
	require.Len(t, others, 2*16+2*16+8)
	return k, others
}

func TestKeysThatDifferAreNotTheSame(t *testing.T) {
	k, others := keys(t)
	same := k
	require.True(t, k.is(&same))
	for _, other := range others {
		require.NotEqual(t, k, other)
		require.False(t, k.is(&other), other)
		require.NotEqual(t, k.Bytes(), other.Bytes(), "or they would have the same hash")
	}
}
