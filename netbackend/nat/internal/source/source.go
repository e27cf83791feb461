package source

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/egress"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/ratelimit"
	"github.com/vringnet/vring/netbackend/nat/internal/route"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// A connected socket keeps the source address that was right when it was connected. When the host's addresses or routes
// change, a datagram that leaves by it fails, or goes out with an address by which no answer comes back, while a program that
// starts now is well. So such a socket is connected again: at the flow's next datagram after a change, or after an error that
// such a change can cause. Its port is another one then, as its address is. Sockets that are not connected need none of this.

// Keeper keeps the source addresses of connected sockets right.
type Keeper struct {
	shard  *shard.Shard
	routes *route.Table
	news   *route.ChangeCount // of the guest
	tries  *ratelimit.Bucket  // looks for another source address that errors may cause, of the guest
}

// Guest is what the queue pairs of a guest share of it.
type Guest struct {
	news  route.ChangeCount
	tries ratelimit.Bucket
}

// NewGuest returns that of a guest that was not heard of yet.
func NewGuest() *Guest {
	g := new(Guest)
	g.tries.Fill(sourceTries)
	return g
}

// SetUp makes what keeps the source addresses of a queue pair.
func (e *Keeper) SetUp(s *shard.Shard, routes *route.Table, g *Guest) {
	*e = Keeper{shard: s, routes: routes, news: &g.news, tries: &g.tries}
}

// Changes returns a number that is another one after each change of the host's addresses and routes.
func (e *Keeper) Changes() uint16 { return e.news.Number() }

// Read reads what has changed, as route.News.Read does.
func (e *Keeper) Read(news *route.News, now int64) (more bool) { return news.Read(now, e.news) }

// sourceTries is how many flows a second are looked at because of errors.
const sourceTries = 200

// KeepUp looks whether the source address of f's socket is still right, if something has changed since that was last known.
// f may be over afterwards.
func (e *Keeper) KeepUp(f *shard.Flow) {
	if f.Bits&shard.SharedSocket == 0 && f.RouteNews != e.Changes() {
		e.renewSource(f)
	}
}

// Recovers tells whether f's socket, by which sending has failed with errno, has another source address now, so that the same
// may be tried again. f may be over afterwards.
func (e *Keeper) Recovers(t *shard.Turn, f *shard.Flow, errno unix.Errno) bool {
	if f.Bits&shard.SharedSocket != 0 {
		return false
	}
	return IsAboutSource(errno) && e.tries.Take(t.Now) && e.renewSource(f)
}

// IsAboutSource tells whether sending can have failed with errno because of the source address or the interface: either may be the
// host's no more.
func IsAboutSource(errno unix.Errno) bool {
	switch errno {
	case unix.EINVAL, unix.EADDRNOTAVAIL, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETDOWN, unix.ENODEV:
		return true
	}
	return false
}

// renewSource connects f's socket again if it would have another source address then, and its present one is not as good. It
// tells whether that was done. If it fails, f is over.
func (e *Keeper) renewSource(f *shard.Flow) bool {
	f.RouteNews = e.Changes()
	if f.FD < 0 {
		return false
	}
	peer, has := hostsock.PeerOf(f.FD), hostsock.NameOf(f.FD)
	if f.Key.Proto == netpkt.ICMP {
		peer = ipaddr.Endpoint{Addr: f.Key.Remote} // the kernel does not name one without a port
	}
	if f.Bits&shard.Bound != 0 {
		e.endOrphan(f, &has.Addr)
		return false
	}
	if !peer.Addr.IsUnicast() || peer.Addr.IsLoopback() || !e.outdated(&peer, &has.Addr) {
		return false
	}
	e.shard.Counters.SourcesMoved++
	if hostsock.Disconnect(f.FD) != 0 || hostsock.Connect(f.FD, &peer) != 0 {
		e.shard.Remove(f)
		return false
	}
	return true
}

// endOrphan ends a flow whose socket is bound to an interface that is gone, or has an address that is the host's no more: its next datagram
// begins another one. It is not connected again, for that would unbind it from its interface (connect(2) with AF_UNSPEC).
func (e *Keeper) endOrphan(f *shard.Flow, has *ipaddr.Addr) {
	if egress.IsOrphan(int(f.FD)) || !e.routes.IsLocal(has) {
		e.shard.Remove(f)
	}
}

// outdated tells whether a socket that is connected to peer should have another source address than it has. An address that
// the host would not choose any more, but that is still one of the interface by which datagrams leave, is kept: so do the
// host's own programs (RFC 4862 section 5.5.4), and peers may know the guest by it.
func (e *Keeper) outdated(peer *ipaddr.Endpoint, has *ipaddr.Addr) bool {
	fd, err := unix.Socket(peer.Addr.Domain(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if hostsock.Connect(int32(fd), peer) != 0 || hostsock.NameOf(int32(fd)).Addr == *has {
		return false // nothing else would be better
	}
	return !e.routes.LeavesBy(has, &peer.Addr)
}
