package ring_test

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue/internal/ring"
)

const size = 4

// image is a ring as plain bytes, laid out by hand.
type image struct {
	mem               []uint64 // aligned to 8 at least; the parts are found at multiples of 16
	desc, avail, used []byte
}

func newImage(availOffset int) *image {
	m := &image{mem: make([]uint64, 64)}
	b := unsafe.Slice((*byte)(unsafe.Pointer(&m.mem[0])), 512)
	skip := int(-uintptr(unsafe.Pointer(&b[0])) & 15)
	b = b[skip:]
	m.desc = b[:64]
	m.avail = b[64+availOffset : 64+availOffset+4+2*size+2]
	m.used = b[128 : 128+4+8*size+2]
	return m
}

func (m *image) device(t *testing.T) ring.Device {
	d, ok := ring.NewDevice(size, unsafe.Pointer(&m.desc[0]), unsafe.Pointer(&m.avail[0]), unsafe.Pointer(&m.used[0]))
	require.True(t, ok)
	return d
}

func (m *image) driver(t *testing.T) ring.Driver {
	d, ok := ring.NewDriver(size, unsafe.Pointer(&m.desc[0]), unsafe.Pointer(&m.avail[0]), unsafe.Pointer(&m.used[0]))
	require.True(t, ok)
	return d
}

func TestDeviceReadsAndWritesTheSpecifiedBytes(t *testing.T) {
	for _, offset := range []int{0, 2} { // both alignments of the available ring
		m := newImage(offset)
		d := m.device(t)
		le := binary.LittleEndian

		le.PutUint16(m.avail[0:], 0x1111)
		le.PutUint16(m.avail[2:], 0x2222)
		for i := range size {
			le.PutUint16(m.avail[4+2*i:], uint16(0x3300+i))
		}
		le.PutUint16(m.avail[4+2*size:], 0x4444)
		require.EqualValues(t, 0x1111, d.AvailFlags())
		require.EqualValues(t, 0x2222, d.AvailIdx())
		for i := range uint16(3 * size) {
			require.Equal(t, 0x3300+i%size, d.Avail(i))
		}
		require.EqualValues(t, 0x4444, d.UsedEvent())

		le.PutUint64(m.desc[16:], 0x1122334455667788)
		le.PutUint32(m.desc[24:], 0x99aabbcc)
		le.PutUint16(m.desc[28:], 3)
		le.PutUint16(m.desc[30:], 2)
		require.Equal(t, ring.Desc{Addr: 0x1122334455667788, Len: 0x99aabbcc, Flags: 3, Next: 2}, d.Desc.Load(1))

		before := append([]byte(nil), m.used...)
		d.SetUsed(5, 0x7788, 0xaabbccdd)
		require.Equal(t, []byte{0x88, 0x77, 0, 0, 0xdd, 0xcc, 0xbb, 0xaa}, m.used[12:20])
		copy(before[12:], m.used[12:20])
		d.PublishUsed(1, 0x5566)
		require.Equal(t, []byte{1, 0, 0x66, 0x55}, m.used[:4])
		require.EqualValues(t, 0x5566, d.UsedIdx())
		copy(before, m.used[:4])
		d.SetAvailEvent(0x9988)
		require.Equal(t, []byte{0x88, 0x99}, m.used[4+8*size:])
		copy(before[4+8*size:], m.used[4+8*size:])
		require.Equal(t, before, m.used, "nothing else was written")
	}
}

func TestDriverAndDeviceUnderstandEachOther(t *testing.T) {
	for _, offset := range []int{0, 2} {
		m := newImage(offset)
		device, driver := m.device(t), m.driver(t)
		for i := range uint16(10) {
			driver.SetDesc(i%size, ring.Desc{Addr: uint64(i), Len: 2, Flags: 3, Next: 4})
			require.Equal(t, driver.Desc(i%size), device.Desc.Load(uint32(i%size)))
			driver.SetAvail(i, 100+i)
			driver.PublishAvail(i%2, i)
			require.Equal(t, i, device.AvailIdx())
			require.Equal(t, i%2, device.AvailFlags())
			require.Equal(t, 100+i, device.Avail(i))
			require.Equal(t, 100+i, driver.Entry(i))
			driver.SetUsedEvent(200 + i)
			require.Equal(t, 200+i, device.UsedEvent())

			device.SetUsed(i, 300+i, 400)
			device.PublishUsed(i%2, i)
			require.Equal(t, i, driver.UsedIdx())
			require.Equal(t, i%2, driver.UsedFlags())
			id, written := driver.Used(i)
			require.EqualValues(t, 300+i, id)
			require.EqualValues(t, 400, written)
			device.SetAvailEvent(500 + i)
			require.Equal(t, 500+i, driver.AvailEvent())
		}
	}
}

func TestAlignmentIsChecked(t *testing.T) {
	m := newImage(0)
	desc, avail, used := unsafe.Pointer(&m.desc[0]), unsafe.Pointer(&m.avail[0]), unsafe.Pointer(&m.used[0])
	for _, bad := range [][3]unsafe.Pointer{
		{unsafe.Add(desc, 8), avail, used}, {desc, unsafe.Add(avail, 1), used}, {desc, avail, unsafe.Add(used, 2)},
	} {
		_, ok := ring.NewDevice(size, bad[0], bad[1], bad[2])
		require.False(t, ok)
		_, ok = ring.NewDriver(size, bad[0], bad[1], bad[2])
		require.False(t, ok)
	}
}

func TestIndirectTableAtAnyAddress(t *testing.T) {
	b := make([]byte, 64)
	for off := range 16 {
		binary.LittleEndian.PutUint64(b[off+16:], 42)
		binary.LittleEndian.PutUint64(b[off+24:], 1<<48|2<<32|3)
		table := ring.NewTable(unsafe.Pointer(&b[off]))
		require.Equal(t, ring.Desc{Addr: 42, Len: 3, Flags: 2, Next: 1}, table.Load(1))
	}
}

// The loops for runs do what the accessors for single entries do, over the end of the ring too.
func TestRunsAreManyEntries(t *testing.T) {
	for _, offset := range []int{0, 2} {
		m := newImage(offset)
		d, driver := m.device(t), m.driver(t)
		for i := range uint16(size) {
			driver.SetDesc(i, ring.Desc{Addr: 0x1000 * uint64(i+1), Len: 10 + uint32(i), Flags: 2, Next: i})
		}
		for i, head := range []uint16{2, 0, 7, 1} { // 7 is no descriptor
			driver.SetAvail(uint16(i), head)
		}
		heads, descs := make([]uint16, 3), make([]ring.Words, 3)
		d.LoadRun(65535, heads, descs)
		require.Equal(t, []uint16{1, 2, 0}, heads)
		for i, head := range heads {
			want := d.Desc.Load(uint32(head))
			require.Equal(t, want.Addr, descs[i].Addr)
			require.Equal(t, want.Len, descs[i].Len())
			require.Equal(t, want.Flags, descs[i].Flags())
		}
		d.LoadRun(2, heads[:1], descs[:1])
		require.EqualValues(t, 7, heads[0], "the caller is told, whatever was loaded with it")

		d.SetUsedRun(65535, []uint16{1, 2, 0}, []uint32{11, 12, 13})
		for i, want := range [][2]uint32{{1, 11}, {2, 12}, {0, 13}} {
			id, written := driver.Used(uint16(i - 1))
			require.Equal(t, want, [2]uint32{id, written})
		}
		d.SetUsedRunRead(1, []uint16{3})
		id, written := driver.Used(1)
		require.Equal(t, [2]uint32{3, 0}, [2]uint32{id, written})
	}
}

func TestPauseReturns(t *testing.T) { ring.Pause() }
