package multicast

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// Config says where a guest may look for services.
type Config struct {
	Interfaces []string // of the host, MaxInterfaces at most
	IPv6       bool     // the guest has it
	Loop       bool     // programs of the host hear the guest's questions, as those of the network do
}

// MaxInterfaces is how many interfaces a guest may use.
const MaxInterfaces = 4

// Files is how many descriptors a Reflector for n interfaces has at most.
func Files(n int) int {
	const ownSockets = 3 // the epoll set, the timer and the inquiry
	return ownSockets + n*int(groups)*versions + maxAsks
}

// Outcome is what became of a message.
type Outcome uint8

// Outcomes.
const (
	Sent        Outcome = iota
	Kept                // it is no question, but an announcement, or the claim of a name
	Malformed           // it cannot be understood
	Unsent              // no interface took it
	SentInstead         // Sent, but another port of the guest that waited for answers was given up for it
)

// Reflector passes one guest's questions on, and the answers back.
type Reflector struct {
	mu    sync.Mutex // guards all below
	cfg   Config
	epfd  int // an epoll set of all sockets, which others put into theirs
	timer int // ends asks while nothing comes
	armed bool
	// expirations is what the timer says.
	expirations [8]byte
	links       []*link
	asks        asks
	ask         inquiry
	out         outgoing

	in incoming
	// ready is how many of polled have something. Whoever closes a socket sets it to 0: its number may be another's soon.
	ready  int
	next   int // of polled, that is looked at next
	polled [1 + MaxInterfaces*int(groups)*versions + maxAsks]unix.PollFd
	of     [1 + MaxInterfaces*int(groups)*versions + maxAsks]origin
}

// origin is which socket something came by: that of a link, or of an ask.
type origin struct {
	link    *link
	group   Group
	version int
	guest   netip.AddrPort // of the ask
}

// Open opens the sockets of all interfaces, which must be there. The error says what is to be done about it.
func Open(cfg Config) (*Reflector, error) {
	r := &Reflector{cfg: cfg, epfd: -1, timer: -1}
	if err := r.ask.open(); err != nil {
		return nil, err
	}
	if err := r.open(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Reflector) open() (err error) {
	if r.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll set of --multicast: %w", err)
	}
	if r.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err == nil {
		err = r.watch(r.timer)
	}
	if err != nil {
		return fmt.Errorf("timer of --multicast: %w", err)
	}
	for _, name := range r.cfg.Interfaces {
		l := newLink(name)
		r.links = append(r.links, l)
		if l.state, err = r.ask.find(name); err != nil {
			return err
		}
		if err := l.check(); err != nil {
			return err
		}
		if err := l.open(&r.cfg, r.watch); err != nil {
			return err
		}
	}
	return nil
}

// Close closes all sockets.
func (r *Reflector) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.links {
		l.close()
	}
	r.asks.close()
	r.ask.close()
	for _, fd := range []int{r.timer, r.epfd} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	return nil
}

// SetLoop changes Config.Loop for questions that the guest asks from now on.
func (r *Reflector) SetLoop(loop bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if loop == r.cfg.Loop {
		return
	}
	r.cfg.Loop = loop
	for _, l := range r.links {
		l.setLoop(loop)
	}
}

// FD is readable while there is something to receive. It is the Reflector's.
func (r *Reflector) FD() int { return r.epfd }

func (r *Reflector) watch(fd int) error {
	return unix.EpollCtl(r.epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// Change is an interface that is gone, or there again.
type Change struct {
	Interface string
	Gone      bool
	Fault     error // why it cannot be used though it is there
}

// Refresh looks how the interfaces stand, as is to be done when links or addresses of the host have changed. An interface that has
// come back has another index, and its groups are joined anew.
func (r *Reflector) Refresh() (changes []Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.links {
		now, err := r.ask.find(l.name)
		if err != nil {
			continue // it is as it was, until the next change
		}
		before := l.index
		l.state = now
		if before != now.index {
			r.ready = 0
			l.close()
		}
		if now.index == 0 {
			if before != 0 {
				changes = append(changes, Change{Interface: l.name, Gone: true})
			}
			continue
		}
		err = l.open(&r.cfg, r.watch)
		if before != now.index {
			changes = append(changes, Change{Interface: l.name, Fault: err})
		}
	}
	return changes
}

// Send passes a message of the guest to a group on. It may change the message.
func (r *Reflector) Send(now int64, g Group, guest netip.AddrPort, message []byte) Outcome {
	if g == MDNS {
		left, what := question(message)
		if what != Sent {
			return what
		}
		message = left
	} else if !isSearch(message) {
		return Kept
	}
	version := v4
	if guest.Addr().Is6() {
		version = v6
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if g == MDNS && guest.Port() == MDNSPort {
		return r.sendAsMember(version, message)
	}
	return r.sendAsking(now, g, version, guest, message)
}

// sendAsMember sends from the port 5353: answers go to the group.
func (r *Reflector) sendAsMember(version int, message []byte) Outcome {
	what := Unsent
	for _, l := range r.links {
		fd := l.members[MDNS][version]
		if fd >= 0 && l.isUp() && r.out.send(fd, MDNS, version, l.index, message) == 0 {
			what = Sent
		}
	}
	return what
}

// sendAsking sends from a port that answers come back to.
func (r *Reflector) sendAsking(now int64, g Group, version int, guest netip.AddrPort, message []byte) Outcome {
	r.expire(now)
	taken := Sent
	a := r.asks.renew(g, guest, now+askPatience)
	if a == nil {
		if r.asks.full() {
			taken = SentInstead
		}
		if a = r.newAsk(now, g, version, guest); a == nil {
			return Unsent
		}
	}
	what := Unsent
	for _, l := range r.links {
		if l.isUp() && r.out.send(a.fd, g, version, l.index, message) == 0 {
			what = taken
		}
	}
	return what
}

func (r *Reflector) newAsk(now int64, g Group, version int, guest netip.AddrPort) *ask {
	fd, err := openSocket(version, common(g, version, r.cfg.Loop))
	if err != nil {
		return nil
	}
	if err := r.watch(fd); err != nil {
		_ = unix.Close(fd)
		return nil
	}
	if r.asks.full() {
		r.asks.dropFirst()
	}
	r.ready = 0
	r.arm(askPatience)
	return r.asks.add(ask{guest: guest, group: g, version: version, fd: fd, until: now + askPatience})
}

// expire ends asks whose time is over.
func (r *Reflector) expire(now int64) {
	if r.asks.expire(now) {
		r.ready = 0
	}
}

// arm has the timer wake the reader.
func (r *Reflector) arm(in int64) {
	if r.armed {
		return
	}
	value := unix.NsecToTimespec(in)
	r.armed = unix.TimerfdSettime(r.timer, 0, &unix.ItimerSpec{Value: value}, nil) == nil
}
