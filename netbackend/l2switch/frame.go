package l2switch

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/fdb"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// frame is what is known of a frame of the guest, from copies of its headers. What receivers get of these is the copies.
type frame struct {
	header   vnet.Header // clean
	plain    bool        // the header asks for no offload
	hasTag   bool
	tag      uint16
	vid      uint16 // its VLAN
	typ      uint16 // EtherType behind the tag
	to, from mac
	length   int // bytes, without the virtio-net header

	reason  reason
	port    int  // the number of its receiver, many for all
	flooded bool // its Port's budget for frames to many was asked
}

// many is the receiver of a frame that goes to more than one.
const many = -1

// headLen is how much of a frame is looked at: addresses, a tag, and the type behind it.
const headLen = vnet.EthernetHeaderLen + tagLen

// read reads the headers of a frame. It reports false for a frame that lies.
func (p *Port) read(f *frame, c *virtqueue.Chain) bool {
	*f = frame{length: int(c.Len) - p.headerLen}
	if f.length < vnet.EthernetHeaderLen || f.length > maxFrame {
		return false
	}
	first, second, third := p.words(f, c)
	f.to, f.from = mac(first)&fdb.MACMask, mac(first>>48|second<<16)&fdb.MACMask
	f.typ = swap(uint16(second >> 32))
	if f.typ == etherTypeTag {
		f.hasTag, f.tag, f.typ = true, swap(uint16(second>>48)), swap(third)
		if f.length < headLen {
			return false
		}
	}
	if f.plain = f.header.Plain(); !f.plain && !p.checkOffloads(f) {
		return false
	}
	f.header.Clean(f.length)
	return true
}

// words reads the virtio-net header of a frame, and its first 18 bytes, as they lie in memory. Bytes that there are not are 0.
func (p *Port) words(f *frame, c *virtqueue.Chain) (first, second uint64, third uint16) {
	if v := &c.Iov[0]; p.headerLen == vnet.HeaderLen && v.Len >= vnet.HeaderLen+headLen+2 {
		f.header = vnet.FromWords(v.Word64(0), v.Word32(8))
		return v.Word64(vnet.HeaderLen), v.Word64(vnet.HeaderLen + 8), uint16(v.Word32(vnet.HeaderLen + 16))
	}
	copied := &p.head
	clear(copied[:])
	guestmem.CopyFrom(copied[:p.headerLen+headLen], c.Iov, 0)
	f.header.Decode(copied[:p.headerLen])
	bytes := copied[p.headerLen:]
	return binary.LittleEndian.Uint64(bytes), binary.LittleEndian.Uint64(bytes[8:]), binary.LittleEndian.Uint16(bytes[16:])
}

func swap(x uint16) uint16 { return x<<8 | x>>8 }

// checkOffloads checks what the virtio-net header of a frame asks for.
func (p *Port) checkOffloads(f *frame) bool {
	h := &f.header
	if h.Check(f.length, p.features) != nil {
		return false
	}
	network := vnet.EthernetHeaderLen
	if f.hasTag {
		network += tagLen
	}
	// Offsets move with a tag, which is added or removed in front of them.
	if h.Flags&vnet.FlagNeedsCSum != 0 && (int(h.CsumStart) < network || int(h.CsumStart) > maxFrame-tagLen-tagLen) {
		return false
	}
	return h.GSOType == vnet.GSONone || h.CheckEtherType(f.typ) == nil
}

// form is how a frame goes to a receiver: with a tag or without.
type form struct {
	header vnet.Header
	head   [headLen]byte
	n      int // of head
	skip   int // bytes of the guest's frame that head is in the place of
	length int // of the frame
}

// formFor returns the form of a frame for a receiver.
func (f *frame) formFor(to *Port) (o form) {
	binary.LittleEndian.PutUint64(o.head[:], uint64(f.to)|uint64(f.from)<<48)
	binary.LittleEndian.PutUint32(o.head[8:], uint32(f.from>>16))
	o.n, o.skip, o.header = 12, vnet.EthernetHeaderLen, f.header
	if f.hasTag {
		o.skip += tagLen
	}
	if f.vid != to.vlan {
		binary.BigEndian.PutUint16(o.head[o.n:], etherTypeTag)
		binary.BigEndian.PutUint16(o.head[o.n+2:], f.tag&^vidMask|f.vid)
		o.n += tagLen
	}
	binary.BigEndian.PutUint16(o.head[o.n:], f.typ)
	o.n += 2
	o.length = f.length - o.skip + o.n
	o.shift(o.n - o.skip)
	return o
}

// shift moves what the header says of offsets.
func (o *form) shift(n int) {
	if n == 0 {
		return
	}
	if o.header.Flags&vnet.FlagNeedsCSum != 0 {
		o.header.CsumStart = uint16(int(o.header.CsumStart) + n)
	}
	if o.header.HdrLen != 0 {
		o.header.HdrLen = uint16(max(0, int(o.header.HdrLen)+n))
	}
}

// padded is the length of a frame of n bytes as it waits in an inbox.
func padded(n int) int { return max(n, netbackend.MinFrame) }
