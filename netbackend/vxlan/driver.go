package vxlan

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/mmsg"
	"github.com/vringnet/vring/internal/ownrings"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/fdb"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// Features are those that the driver acknowledges: frames come and go whole, with their checksums.
const Features = vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf

const (
	// slotSize is where a datagram goes, the longest that UDP has, and slots how many are received at once. Their distance is no
	// multiple of a page, so that headers are not all in the same lines of a cache.
	slotSize = 1<<16 + 64
	slots    = mmsg.Size

	// addresses is how many MAC addresses are known behind all remote switches, and share how many behind one.
	addresses = 16384
	share     = 8192

	tagLen  = 4
	tagType = 0x8100
	vidMask = 0x0fff
)

// Counters are plain numbers of the device's thread, since the Driver was made.
type Counters struct {
	Sent     uint64 `counter:"vxlan_sent" help:"Datagrams to remote switches that the kernel took: one for each remote switch that a frame goes to."`
	Received uint64 `counter:"vxlan_received" help:"Frames from remote switches that were passed to the switch."`

	TooLarge  uint64 `counter:"vxlan_too_large" kind:"drop" help:"Datagrams that were too large for the way to a remote switch: the guests' MTU is."`
	Unsent    uint64 `counter:"vxlan_unsent" kind:"drop" help:"Datagrams that the kernel refused to send: there is no way to the remote switch, or no room."`
	Unmapped  uint64 `counter:"vxlan_unmapped" kind:"drop" help:"Frames to remote switches in a VLAN that has no network, while others have."`
	Stranger  uint64 `counter:"vxlan_stranger" kind:"drop" help:"Datagrams from addresses that are no remote switch's."`
	BadHeader uint64 `counter:"vxlan_bad_header" kind:"drop" help:"Datagrams of remote switches without a VXLAN header, or with one of another protocol."`
	WrongVNI  uint64 `counter:"vxlan_wrong_vni" kind:"drop" help:"Datagrams of remote switches for a network that is not this one."`
	BadFrame  uint64 `counter:"vxlan_bad_frame" kind:"drop" help:"Datagrams of remote switches whose frame is too short, or has a tag where its network says the VLAN."`

	NotLearned uint64 `counter:"vxlan_not_learned" help:"Frames of remote switches from an address for which there was no room: frames to it go to all of them."`
}

// remote is a remote switch.
type remote struct {
	addr  netip.AddrPort
	name  mmsg.Name
	heard atomic.Int64 // when a frame has come last, 0 for never
}

// Driver moves frames between rings of its own and a socket. It implements netbackend.Driver.
type Driver struct {
	*ownrings.Rings
	cfg      Config
	fd       int
	paths    paths
	now      func() int64
	remotes  []remote
	numbers  map[[16]byte]int // of remotes, by their addresses
	table    *fdb.Table       // behind which remote an address is
	vlans    map[uint32]uint16
	networks map[uint16]uint32
	counters Counters

	readable, writable bool // as far as known
	more, waits        bool // more may be had at once, but not before the device has used all that there is
	slot               int  // in which the next datagram goes
	in, out            mmsg.Batch
	inIov              [slots]guestmem.Iovec
	names              [slots]mmsg.Name

	queue    [ownrings.RXBuffers]outgoing // frames in used receive buffers, from first on
	first, n int
	prepared int // receive buffers of those frames
	copies   int // of the first frame that were sent
	outIov   [ownrings.RXBuffers]guestmem.Iovec
	last     [mmsg.Size]bool // the datagram is the last one of its frame

	tooLarge atomic.Int64 // bytes of the longest frame that the way to a remote switch did not carry
	trouble  chan struct{}
}

// outgoing is a frame for remote switches.
type outgoing struct {
	at      int // where its VXLAN header is in memory
	buffers int // that it is in
	length  int // of the frame, in bytes
	remote  int // or toAll, or nowhere
}

const (
	toAll   = -1
	nowhere = -2
)

// New opens the socket and makes the rings. now is a clock in nanoseconds, and ageing how long an address is known that is not seen.
func New(cfg Config, ageing time.Duration, now func() int64) (*Driver, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	fd, err := cfg.open()
	if err != nil {
		return nil, err
	}
	ways, err := cfg.openPaths()
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	d := &Driver{
		Rings: ownrings.New(slots * slotSize), cfg: cfg, fd: fd, paths: ways, now: now, table: fdb.New(addresses, int64(ageing)),
		remotes: make([]remote, len(cfg.Remotes)), numbers: map[[16]byte]int{}, trouble: make(chan struct{}, 1),
	}
	for i, a := range cfg.Remotes {
		d.remotes[i].addr, d.remotes[i].name = a, mmsg.NameOf(a, 0)
		d.numbers[a.Addr().As16()] = i
	}
	if len(cfg.Mappings) > 0 {
		d.vlans, d.networks = map[uint32]uint16{cfg.VNI: 0}, map[uint16]uint32{0: cfg.VNI}
	}
	for _, m := range cfg.Mappings {
		d.vlans[m.VNI], d.networks[m.VLAN] = m.VLAN, m.VNI
	}
	return d, nil
}

// Close closes the sockets. No device has the Driver any more.
func (d *Driver) Close() error { return errors.Join(unix.Close(d.fd), d.paths.close()) }

// Begin readies the Driver for a device that has not seen its rings.
func (d *Driver) Begin() {
	d.Restart()
	d.readable, d.writable, d.more, d.slot = true, true, false, 0
	d.first, d.n, d.prepared, d.copies = 0, 0, 0, 0
}

// FD implements netbackend.Driver.
func (d *Driver) FD() int { return d.fd }

// Full implements netbackend.Driver.
func (d *Driver) Full() bool { return !d.writable }

// Counters implements netbackend.Driver: there is no front end.
func (d *Driver) Counters() netbackend.FrontEndCounters { return netbackend.FrontEndCounters{} }

// Carried returns what was counted. It is for the device's thread, or for anybody when no device has the Driver.
func (d *Driver) Carried() Counters { return d.counters }

// Fill implements netbackend.Driver.
func (d *Driver) Fill(events uint32) bool {
	if events&^uint32(unix.EPOLLOUT) != 0 {
		d.readable = true
	}
	if events&(unix.EPOLLOUT|unix.EPOLLERR) != 0 && !d.writable {
		d.writable = true
		d.send()
	}
	d.Reclaim()
	d.receive()
	return d.Publish()
}

// Drain implements netbackend.Driver.
func (d *Driver) Drain() (more bool) {
	d.Reclaim()
	d.send()
	return d.more && d.Room() > 0 && (!d.waits || d.Outstanding() == 0)
}

// receive makes frames of datagrams that have come available. It calls once: more waits for the next turn.
func (d *Driver) receive() {
	d.more, d.waits = false, false
	if !d.readable {
		return
	}
	if d.Outstanding() == 0 {
		d.slot = 0
	}
	n := min(d.Room(), slots-d.slot)
	if n == 0 {
		d.more, d.waits = true, d.slot == slots
		return
	}
	for i := range n {
		d.inIov[i] = d.Iovec(d.Input+(d.slot+i)*slotSize, slotSize)
		d.names[i].Expect()
		d.in.SetTo(i, d.inIov[i:i+1], &d.names[i])
	}
	got, errno := d.in.Receive(d.fd, n)
	if errno == unix.EAGAIN {
		d.readable = false
		return
	}
	now := d.now()
	for i := range got {
		length, _ := d.in.Length(i) // none is longer than a slot
		d.take(d.Input+(d.slot+i)*slotSize, length, &d.names[i], now)
	}
	d.slot += got
	d.readable = errno != 0 || got == n // an error belongs to what was sent before
	d.more = d.readable
}

// take makes the frame of a datagram available that lies at in memory.
func (d *Driver) take(at, length int, from *mmsg.Name, now int64) {
	number, known := d.numbers[from.Addr()]
	if !known {
		d.counters.Stranger++
		return
	}
	vni, ok := readHeader(d.Memory[at : at+length])
	if !ok {
		d.counters.BadHeader++
		return
	}
	vid, ok := d.vlanOf(vni)
	if !ok {
		d.counters.WrongVNI++
		return
	}
	if at, length, ok = d.decapsulate(at+HeaderLen, length-HeaderLen, vid); !ok {
		d.counters.BadFrame++
		return
	}
	d.learn(d.Memory[at:at+length], number, now)
	if r := &d.remotes[number]; r.heard.Load() != now {
		r.heard.Store(now)
	}
	d.counters.Received++
	d.Add(at, length)
}

// vlanOf returns the VLAN of a network, 0 for that of frames without a tag of their own, and whether the network is one of ours.
func (d *Driver) vlanOf(vni uint32) (vid uint16, ok bool) {
	if d.vlans == nil {
		return 0, vni == d.cfg.VNI
	}
	vid, ok = d.vlans[vni]
	return vid, ok
}

// decapsulate gives the frame at at the tag of its VLAN, in the place of the end of the VXLAN header. It reports false for a frame that cannot be
// in that network.
func (d *Driver) decapsulate(at, length int, vid uint16) (int, int, bool) {
	if length < vnet.EthernetHeaderLen {
		return 0, 0, false
	}
	if d.vlans == nil {
		return at, length, true
	}
	const macs = 12
	frame := d.Memory[at-tagLen : at+length]
	if binary.BigEndian.Uint16(frame[tagLen+macs:]) == tagType {
		return 0, 0, false
	}
	if vid == 0 {
		return at, length, true
	}
	copy(frame, frame[tagLen:tagLen+macs])
	binary.BigEndian.PutUint16(frame[macs:], tagType)
	binary.BigEndian.PutUint16(frame[macs+2:], vid)
	return at - tagLen, length + tagLen, true
}

// learn notes behind which remote switch a frame's source is.
func (d *Driver) learn(frame []byte, number int, now int64) {
	source := fdb.MACOf([6]byte(frame[6:]))
	if source == 0 || source&fdb.GroupBit != 0 {
		return // which the switch drops
	}
	if d.table.See(fdb.AddressOf(source, tagOf(frame)), number, share, now) == fdb.Full {
		d.counters.NotLearned++
	}
}

// tagOf returns the VLAN of a frame's tag, 0 for none.
func tagOf(frame []byte) uint16 {
	const macs = 12
	if len(frame) < macs+tagLen || binary.BigEndian.Uint16(frame[macs:]) != tagType {
		return 0
	}
	return binary.BigEndian.Uint16(frame[macs+2:]) & vidMask
}

// send sends the frames that are used in the receive ring, as far as the socket takes them.
func (d *Driver) send() {
	for d.writable {
		d.prepare()
		n := d.gather()
		if n == 0 {
			return
		}
		sent, errno := d.out.Send(d.fd, n)
		switch errno {
		case 0:
			d.counters.Sent += uint64(sent)
		case unix.EAGAIN:
			d.writable = false
			return
		case unix.EINTR:
			continue
		case unix.EMSGSIZE:
			sent = 1
			d.counters.TooLarge++
			d.tellTooLarge()
		default:
			sent = 1
			d.counters.Unsent++
		}
		d.sent(sent)
	}
}

// prepare decides where the frames go that are used since, and puts their headers in front of them.
func (d *Driver) prepare() {
	if used := d.Used(); d.prepared < used {
		now := d.now()
		for d.prepared < used {
			buffers, length := d.Frame(d.prepared)
			o := d.decide(d.prepared, now) // which writes over what Frame has read
			o.buffers, o.length = buffers, length
			d.queue[(d.first+d.n)%len(d.queue)] = o
			d.n++
			d.prepared += buffers
		}
	}
}

// decide decides on the frame that begins in used receive buffer i.
func (d *Driver) decide(i int, now int64) (o outgoing) {
	at, written := d.Buffer(i)
	frame := d.Memory[at+vnet.HeaderLen : at+written]
	vid := tagOf(frame)
	vni, mapped := d.cfg.VNI, true
	o.at = at + vnet.HeaderLen - HeaderLen
	if d.networks != nil {
		if vni, mapped = d.networks[vid]; !mapped {
			d.counters.Unmapped++
			return outgoing{remote: nowhere}
		}
		if vid != 0 {
			const macs = 12
			copy(frame[tagLen:], frame[:macs])
			o.at += tagLen
			frame = frame[tagLen:]
		}
	}
	putHeader(d.Memory[o.at:o.at+HeaderLen], vni)
	o.remote = d.remoteOf(fdb.MACOf([6]byte(frame)), vid, now)
	return o
}

// remoteOf returns behind which remote switch a destination is.
func (d *Driver) remoteOf(to fdb.MAC, vid uint16, now int64) int {
	if len(d.remotes) == 1 {
		return 0
	}
	if to&fdb.GroupBit != 0 {
		return toAll
	}
	return d.table.LookUp(fdb.AddressOf(to, vid), now) // -1 is toAll
}

// gather makes datagrams of the oldest frames, and returns how many.
func (d *Driver) gather() (n int) {
	buffer, begin := 0, d.copies
	for k := 0; k < d.n && n < mmsg.Size; k++ {
		o := &d.queue[(d.first+k)%len(d.queue)]
		if o.remote == nowhere {
			if n > 0 {
				return n
			}
			d.pop()
			k--
			continue
		}
		iov := d.pieces(o, buffer)
		buffer += o.buffers
		if o.remote >= 0 {
			d.out.SetTo(n, iov, &d.remotes[o.remote].name)
			d.last[n] = true
			n++
			continue
		}
		for r := begin; r < len(d.remotes) && n < mmsg.Size; r++ {
			d.out.SetTo(n, iov, &d.remotes[r].name)
			d.last[n] = r == len(d.remotes)-1
			n++
		}
		begin = 0
	}
	return n
}

// pieces are where a frame is, with its VXLAN header, which begins in used receive buffer i.
func (d *Driver) pieces(o *outgoing, i int) []guestmem.Iovec {
	at, written := d.Buffer(i)
	d.outIov[i] = d.Iovec(o.at, at+written-o.at)
	for k := 1; k < o.buffers; k++ {
		d.outIov[i+k] = d.Iovec(d.Buffer(i + k))
	}
	return d.outIov[i : i+o.buffers]
}

// sent is for when n datagrams are done with.
func (d *Driver) sent(n int) {
	for _, last := range d.last[:n] {
		d.copies++
		if last {
			d.pop()
		}
	}
}

// pop posts the buffers of the first frame again.
func (d *Driver) pop() {
	o := &d.queue[d.first]
	d.first = (d.first + 1) % len(d.queue)
	d.n--
	d.prepared -= o.buffers
	d.copies = 0
	d.Repost(o.buffers)
}

// tellTooLarge notes that the first datagram was too large.
func (d *Driver) tellTooLarge() {
	length := int64(d.queue[d.first].length)
	if length <= d.tooLarge.Load() {
		return
	}
	d.tooLarge.Store(length)
	select {
	case d.trouble <- struct{}{}:
	default:
	}
}

// Trouble tells that a frame was longer than all before that the way to a remote switch did not carry.
func (d *Driver) Trouble() <-chan struct{} { return d.trouble }

// TooLarge is the length of that frame in bytes, with its Ethernet header; 0 if there was none. Anybody may call it.
func (d *Driver) TooLarge() int { return int(d.tooLarge.Load()) }

// Remote is what is known of a remote switch.
type Remote struct {
	Addr      netip.AddrPort
	Addresses int           // MAC addresses behind it, those that are too old among them
	Heard     time.Duration // since a frame has come from it; negative for never
}

// Remotes returns what is known of all remote switches. Anybody may call it.
func (d *Driver) Remotes() (all []Remote) {
	now := d.now()
	for i := range d.remotes {
		r := Remote{Addr: d.remotes[i].addr, Addresses: d.table.Count(i), Heard: -1}
		if heard := d.remotes[i].heard.Load(); heard != 0 {
			r.Heard = max(0, time.Duration(now-heard))
		}
		all = append(all, r)
	}
	return all
}

// Learned returns the MAC addresses behind remote switches, at most so many. Anybody may call it.
func (d *Driver) Learned(most int) []fdb.Entry { return d.table.Entries(d.now(), most) }

// InnerMTU is Config.InnerMTU as of now. It is for one goroutine at a time; it makes no socket.
func (d *Driver) InnerMTU() (int, error) {
	mtu, err := d.paths.least(&d.cfg)
	return max(0, mtu-d.cfg.Overhead()), err
}
