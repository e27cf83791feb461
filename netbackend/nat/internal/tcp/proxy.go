package tcp

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/proxyproto"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// A forward may speak the PROXY protocol (package proxyproto), on either side.
//
// To the guest, a header stands in front of the client's stream (Forward.SendProxy). Its bytes have sequence numbers like
// all others, but they are in no queue: they are made of the flow's addresses each time that they are sent. So in the
// sequence space the header's bytes that the guest has not acknowledged come first, and the queue of the host's socket
// begins behind them; a segment has bytes of one or the other.
//
// From the host's side, a proxy names its client by a header (Forward.AcceptProxy). The guest is called when it has come,
// for it is to see that client's address. Until then the call is a flow in a state of its own, whose key names an address
// that no frame can have. The header is peeked at until it is complete, so nothing of it is kept.

// headerPatience is how long a header is waited for. The specification wants three seconds at least, for a segment that is
// lost.
const headerPatience = int64(5e9)

// ProxyState is who has called by a forward, and the header that tells the guest.
type ProxyState struct {
	Source, Destination ipaddr.Endpoint
	Known               bool  // unix sockets have no addresses
	Version             uint8 // of the header that the guest gets, 0 for none
	left                uint8 // bytes of that header which the guest has not acknowledged
}

// headerAcked takes the header's share out of n bytes that the guest has acknowledged, and returns the rest.
func (x *ProxyState) headerAcked(n uint32) uint32 {
	own := min(n, uint32(x.left))
	x.left -= uint8(own)
	return n - own
}

// proxyHeader makes the header that the guest gets of f. It is valid until the next call.
func (e *Engine) proxyHeader(f conn) []byte {
	x := &f.tcp.proxy
	var h proxyproto.Header
	if x.Known {
		h = proxyproto.Header{Source: x.Source.Netip(), Destination: x.Destination.Netip()}
	}
	return proxyproto.Append(e.scratch[:0], int(x.Version), h)
}

// startHeader puts the header in front of what the guest is to get.
func (e *Engine) startHeader(f conn, caller *ProxyState) {
	f.tcp.proxy = *caller
	if caller.Version != 0 {
		f.tcp.proxy.left = uint8(len(e.proxyHeader(f)))
	}
}

// putHeader writes up to most bytes of the header, from offset on, counted from the first that the guest has not
// acknowledged, to their place behind the headers of the frame iov, and returns how many.
func (e *Engine) putHeader(f conn, offset uint32, iov []guestmem.Iovec, most int) int {
	h := e.proxyHeader(f)
	h = h[len(h)-int(f.tcp.proxy.left)+int(offset):]
	h = h[:min(len(h), most, shard.Capacity(iov)-f.headers())]
	guestmem.CopyTo(iov, f.headers(), h)
	return len(h)
}

// AwaitProxyHeader keeps a connection that a forward took until its header has come.
func (e *Engine) AwaitProxyHeader(t *shard.Turn, fd int, to ipaddr.Endpoint, caller *ProxyState, kind shard.Bits) {
	key := flowtable.Key{Guest: to.Addr, GuestPort: to.Port, Proto: netpkt.TCP, RemotePort: caller.Source.Port}
	if !t.FreePort(&key) || !t.Admit(shard.ClassCalls) {
		e.Reject(fd, stats.EndNoRoom)
		return
	}
	f, _ := t.Create(&key, fd, stateAwaitProxy, shard.Inbound|shard.Readable|kind, shard.ClassCalls)
	if f == nil {
		t.Counters.Ends[stats.EndNoRoom]++
		return
	}
	e.begin(f).tcp.proxy = *caller
	t.Wheel.Set(f.Index, t.Now+headerPatience)
	t.Schedule(f)
}

// readProxyHeader looks whether a call's header has come, and calls the guest if it has.
func (e *Engine) readProxyHeader(t *shard.Turn, f conn) {
	if f.Bits&shard.Readable == 0 {
		return
	}
	f.Bits &^= shard.Readable // if the header is not complete, its next bytes come with an event of their own
	b := e.discardBuf[:proxyproto.MaxLen]
	n, _, errno := t.Msg.Receive(f.FD, append(t.Pieces[:0], guestmem.PieceOf(b)), unix.MSG_PEEK, false)
	if f.tcp.urgency&hostUrgent != 0 {
		n, errno = e.peekPastMark(t, f.Flow, b, n, errno)
	}
	if errno == unix.EAGAIN {
		return
	}
	if errno != 0 {
		e.Drop(f.Flow, causeOf(errno))
		return
	}
	h, length, err := proxyproto.Parse(b[:n])
	switch {
	case err == nil:
		e.consumeProxyHeader(t, f, &h, uint32(length))
	case !errors.Is(err, proxyproto.ErrShort), f.tcp.urgency&hostUrgent != 0 && !e.cfg.PeekOffset && hostsock.Queued(f.FD) > n:
		e.Drop(f.Flow, stats.EndBadHeader) // with urgent data in it, which this kernel does not let one look behind
	case n == 0 || f.Bits&shard.PeerClosed != 0:
		e.Drop(f.Flow, stats.EndCutHeader)
	}
}

// consumeProxyHeader removes a header of n bytes from the socket's queue, and calls the guest for the client that it names.
func (e *Engine) consumeProxyHeader(t *shard.Turn, f conn, h *proxyproto.Header, n uint32) {
	for n > 0 {
		dropped, errno := e.consume(t, f.Flow, n)
		if errno != 0 || dropped == 0 {
			e.Drop(f.Flow, causeOf(errno))
			return
		}
		n -= uint32(dropped)
	}
	caller := f.tcp.proxy
	if h.Source.IsValid() {
		caller.Source, caller.Destination, caller.Known = ipaddr.EndpointFrom(h.Source), ipaddr.EndpointFrom(h.Destination), true
	}
	to, kind := ipaddr.Endpoint{Addr: f.Key.Guest, Port: f.Key.GuestPort}, f.Bits&shard.UnixSocket
	fd := t.TakeSocket(f.Flow)
	t.Remove(f.Flow)
	e.DialGuest(t, fd, to, &caller, kind)
}
