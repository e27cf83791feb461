package ipfrag

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

const headroom = 24

func key(id uint32) *Key { return &Key{Src: ipaddr.Addr{1}, Dst: ipaddr.Addr{2}, ID: id, Proto: 17} }

// add adds the bytes [start, end) of data to the packet of a key.
func add(r *Reassembler, k *Key, now int64, data []byte, start, end int) (p *Packet, ok bool) {
	p, _ = r.Find(k, now)
	if _, ok = p.Add(start, end-start, end < len(data)); ok {
		copy(p.Bytes(start, end-start), data[start:end])
	}
	return p, ok
}

// Fragments of several packets come in any order, mixed; each packet is whole when its last missing fragment has come, and not
// before.
func TestPacketsAreWholeWhenAllFragmentsHaveComeInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type piece struct{ packet, start, end int }
		r := Reassembler{Headroom: headroom}
		var data [][]byte
		var pieces []piece
		left := map[int]int{}
		for i := range rapid.IntRange(1, 4).Draw(t, "packets") {
			d := rapid.SliceOfN(rapid.Byte(), 1, 400).Draw(t, "data")
			data = append(data, d)
			for start := 0; start < len(d); {
				end := min(start+Unit*rapid.IntRange(1, 12).Draw(t, "units"), len(d))
				pieces = append(pieces, piece{i, start, end})
				left[i]++
				start = end
			}
		}
		for _, x := range rapid.Permutation(pieces).Draw(t, "order") {
			p, ok := add(&r, key(uint32(x.packet)), 1, data[x.packet], x.start, x.end)
			require.True(t, ok)
			if rapid.Bool().Draw(t, "comes again") {
				p.Undo()
				p, ok = add(&r, key(uint32(x.packet)), 1, data[x.packet], x.start, x.end)
				require.True(t, ok, "what was undone may come again")
			}
			left[x.packet]--
			require.Equal(t, left[x.packet] == 0, p.Complete())
			if p.Complete() {
				require.Equal(t, data[x.packet], p.Buffer()[headroom:])
				require.Equal(t, len(data[x.packet]), p.Len())
				require.True(t, p.KnowsBeginning())
				p.Release()
			}
		}
	})
}

func TestFragmentsThatContradictEachOtherSpoilThePacket(t *testing.T) {
	data := bytes.Repeat([]byte("abcdefgh"), 8)
	whole := func(n int) []byte { return data[:n] }
	tests := []struct {
		what  string
		first func(r *Reassembler)
		start int
		end   int
		of    int
	}{
		{"the same once more", func(r *Reassembler) { add(r, key(1), 1, data, 0, 16) }, 0, 16, 64},
		{"one byte twice", func(r *Reassembler) { add(r, key(1), 1, data, 0, 16) }, 8, 24, 64},
		{"behind the end", func(r *Reassembler) { add(r, key(1), 1, whole(24), 16, 24) }, 24, 32, 64},
		{"a second end", func(r *Reassembler) { add(r, key(1), 1, whole(24), 16, 24) }, 24, 32, 32},
		{"an end before what has come", func(r *Reassembler) { add(r, key(1), 1, data, 32, 40) }, 16, 24, 24},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			r := Reassembler{Headroom: headroom}
			tt.first(&r)
			p, _ := r.Find(key(1), 1)
			dropped, ok := p.Add(tt.start, tt.end-tt.start, tt.end < tt.of)
			require.False(t, ok)
			require.Equal(t, 2, dropped)
			require.False(t, p.KnowsBeginning())
			dropped, ok = p.Add(48, 8, true)
			require.False(t, ok, "nothing more is taken")
			require.Equal(t, 1, dropped)
			require.False(t, p.Complete())
			other, ok := add(&r, key(2), 1, data, 0, 64)
			require.True(t, ok)
			require.True(t, other.Complete(), "another packet is not concerned")
		})
	}
}

func TestTheOldestPacketGoesWhenThereAreTooMany(t *testing.T) {
	r := Reassembler{}
	data := make([]byte, 64)
	for i := range MaxPackets {
		add(&r, key(uint32(i)), int64(1+i), data, 0, 8)
	}
	p, evicted := r.Find(key(0), 100)
	require.Zero(t, evicted)
	require.Equal(t, 8, p.Len(), "all are kept")
	p, evicted = r.Find(key(77), 100)
	require.Equal(t, 1, evicted, "the fragments of the oldest")
	require.Zero(t, p.Len())
	p, _ = r.Find(key(1), 100)
	require.Equal(t, 8, p.Len(), "the others are kept")
}

func TestPacketsExpireEachAtItsTime(t *testing.T) {
	r := Reassembler{}
	require.Zero(t, r.Next())
	data := make([]byte, 64)
	add(&r, key(1), 1, data, 0, 8)
	add(&r, key(1), 2, data, 8, 16)
	add(&r, key(2), 5, data, 8, 16)
	require.Equal(t, 1+Timeout, r.Next())
	require.False(t, r.Due(Timeout))
	var expired []uint32
	expire := func(p *Packet) { expired = append(expired, p.ID) }
	require.True(t, r.Due(1+Timeout))
	require.Equal(t, 2, r.Expire(1+Timeout, expire))
	require.Equal(t, []uint32{1}, expired)
	require.Equal(t, 5+Timeout, r.Next())
	require.Equal(t, 1, r.Expire(5+Timeout, func(p *Packet) { require.False(t, p.KnowsBeginning(), "its first has not come") }))
	require.Zero(t, r.Next())
	require.False(t, r.Due(1<<62))
}

func TestTheLongestPacketFits(t *testing.T) {
	r := Reassembler{Headroom: headroom}
	data := bytes.Repeat([]byte{0x5a}, MaxPayload)
	add(&r, key(1), 1, data, 0, 65528)
	p, ok := add(&r, key(1), 1, data, 65528, MaxPayload)
	require.True(t, ok)
	require.True(t, p.Complete())
	require.Equal(t, data, p.Buffer()[headroom:])
}
