package tcp

import (
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// setMSS takes what the guest's MSS and MTU allow a segment to carry.
func (e *Engine) setMSS(f conn, mss uint16) {
	f.tcp.mss, f.tcp.fullMSS = mss, mss
	e.fitPath(f)
}

// fitPath makes a connection's segments as long as the path allows, and tells whether they are shorter than before. A path of
// IPv4 that is narrower than any host's least is left to the routers; see permitFragments.
func (e *Engine) fitPath(f conn) (shorter bool) {
	c := f.tcp
	before := c.mss
	room := max(e.shard.PathMTU(&f.Key.Guest), netpkt.MinMTU4) - (f.headers() - netpkt.EtherLen)
	c.mss = uint16(min(int(f.tcp.fullMSS), room))
	return c.mss < before
}

// ObeyPath is fitPath for who was told of the path.
func (e *Engine) ObeyPath(f *shard.Flow) (shorter bool) { return e.fitPath(e.conn(f)) }

// widen lets a connection try longer segments when what was told of its path is out of date.
func (e *Engine) widen(t *shard.Turn, f conn) {
	if f.tcp.mss == f.tcp.fullMSS {
		return
	}
	e.fitPath(f)
	if f.tcp.mss < f.tcp.fullMSS {
		e.nextKeepalive.start(true, t.Now)
	}
}

// PacketSize is how long the packets of a connection are at most that are not to be cut.
func (e *Engine) PacketSize(of *shard.Flow) int {
	f := e.conn(of)
	return f.headers() - netpkt.EtherLen + int(f.tcp.mss)
}
