package porttest

import (
	"net/netip"
	"testing"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// wire is one end of a cable between two guests. Frames pass with their virtio-net headers, so both guests need the
// same offloads.
type wire struct {
	peer    *wire
	headers int
	queue   []wireFrame // towards this end's guest
	closed  bool
}

type wireFrame struct {
	header vnet.Header
	bytes  []byte
}

func (w *wire) Offers() uint64 {
	return vnet.FeatureCSum | vnet.FeatureGuestCSum | vnet.FeatureHostTSO4 | vnet.FeatureGuestTSO4
}

func (w *wire) Start(features uint64, _ netbackend.Worker) error {
	w.headers = vnet.HeaderLength(features)
	return nil
}

func (w *wire) RingsChanged(netbackend.RingState) {}

func (w *wire) Close() error {
	w.closed = true
	return nil
}

func (w *wire) Turn(_ int64, tx []virtqueue.Chain, _ []netbackend.Event, rx *netbackend.RXWriter) (int, int64) {
	for i := range tx {
		b := make([]byte, tx[i].Len)
		guestmem.CopyFrom(b, tx[i].Iov, 0)
		var f wireFrame
		f.header.Decode(b[:w.headers])
		f.bytes = b[w.headers:]
		w.peer.queue = append(w.peer.queue, f)
	}
	for len(w.queue) > 0 && rx.Write(&w.queue[0].header, w.queue[0].bytes) {
		w.queue = w.queue[1:]
	}
	return len(tx), 0
}

// pair returns two guests on one cable. Whoever waits for something on one must use both.
type pair struct {
	a, b *Guest
	ends [2]*wire
}

func newPair(t *testing.T, opt Options) *pair {
	p := &pair{ends: [2]*wire{{}, {}}}
	p.ends[0].peer, p.ends[1].peer = p.ends[1], p.ends[0]
	opt.GatewayMAC = [6]byte{2, 0, 0, 0, 0, 1}
	p.a, p.b = New(t, p.ends[0], opt), New(t, p.ends[1], opt)
	p.b.IP = netip.MustParseAddr("10.0.2.16")
	return p
}

// run lets both guests go on until cond holds, from timer to timer.
func (p *pair) run(t *testing.T, cond func() bool) {
	t.Helper()
	for range 200_000 {
		if cond() {
			return
		}
		busy := p.a.step()
		busy = p.b.step() || busy
		for i, g := range []*Guest{p.a, p.b} {
			if len(p.ends[i].queue) > 0 {
				g.Turn()
				busy = true
			}
		}
		if !busy {
			p.a.now += int64(1e6)
			p.b.now = p.a.now
		}
	}
	p.a.fatal("the guests got stuck")
}

// connect returns both ends of a connection from a to port 80 of b.
func (p *pair) connect(t *testing.T, from, to TCPOptions) (client, server *TCP) {
	t.Helper()
	l := p.b.Listen(80, to)
	client = p.a.Dial(netip.AddrPortFrom(p.b.IP, 80), from)
	p.run(t, func() bool { return client.State == Open && len(l.conns) == 1 && l.conns[0].State == Open })
	return client, l.conns[0]
}
