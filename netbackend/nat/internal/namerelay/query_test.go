package namerelay_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/namerelay"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/dnsconn"
)

const second = int64(1e9)

// question is a query for the address of a name of one letter.
func question(id uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	return append(b, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 1, 0, 1)
}

// answer is one with a code.
func answer(query []byte, code byte) []byte {
	b := append([]byte{}, query...)
	b[2] |= 0x80
	b[3] = b[3]&0xf0 | code
	return b
}

// codeOf is the code of an answer.
func codeOf(b []byte) byte { return b[3] & 0xf }

// socket is one that the relay has opened. What the resolver has of it is the other end.
type socket struct {
	to         netip.AddrPort
	fd, peer   int
	gen, index uint32
	closed     bool
}

// asked reports whether the resolver has been sent something, and takes it.
func (s *socket) asked() bool {
	_, err := unix.Read(s.peer, make([]byte, 600))
	return err == nil
}

// rig is a relay whose host and guest are the test.
type rig struct {
	t       *testing.T
	relay   namerelay.Relay
	guest   *namerelay.Guest
	now     int64
	openErr error
	noRoom  bool // for answers
	sockets []*socket
	answers [][]byte
	stale   int // answers that were over
	left    []netip.AddrPort
	back    []netip.AddrPort
}

func resolver(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 53)
}

// newRig returns a relay with as many resolvers.
func newRig(t *testing.T, resolvers int) *rig {
	var list []netip.AddrPort
	for i := range resolvers {
		list = append(list, resolver(i+1))
	}
	return newRigOf(t, dns.New(dns.Config{Servers: dns.Plain(list...)}))
}

// newRigOf returns a relay with those resolvers.
func newRigOf(t *testing.T, resolvers *dns.Relay) *rig {
	return newRigOfSplit(t, dns.NewSplit(resolvers, nil))
}

func newRigOfSplit(t *testing.T, resolvers *dns.Split) *rig {
	r := &rig{t: t, now: second, guest: namerelay.NewGuest(resolvers, dnsconn.New(dnsconn.Config{}), namerelay.NewQuotas())}
	r.relay = namerelay.New(namerelay.Config{
		Guest: r.guest, Buffer: make([]byte, 65536), Sockets: func() int { return 1000 },
		Open: r.open,
		Close: func(fd int) {
			for _, s := range r.sockets {
				if s.fd == fd {
					s.closed = true
				}
			}
			require.NoError(t, unix.Close(fd))
		},
		Reply: func(_ *namerelay.Client, answer []byte) bool {
			if !r.noRoom {
				r.answers = append(r.answers, answer)
			}
			return !r.noRoom
		},
		Wake:  func(*namerelay.Stream) {},
		Stale: func() { r.stale++ },
		Left:  func(to dns.Server, _ dns.Transport) { r.left = append(r.left, to.Addr) },
		Back:  func(to dns.Server) { r.back = append(r.back, to.Addr) },
	})
	t.Cleanup(func() {
		r.relay.Forget()
		for _, s := range r.sockets {
			require.True(t, s.closed)
			require.NoError(t, unix.Close(s.peer))
		}
		held, _ := r.guest.Queries()
		require.Zero(t, held)
	})
	return r
}

func (r *rig) open(to netip.AddrPort, _ dns.Transport, gen, index uint32) (int, error) {
	if r.openErr != nil {
		return -1, r.openErr
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(r.t, err)
	r.sockets = append(r.sockets, &socket{to: to, fd: pair[0], peer: pair[1], gen: gen, index: index})
	return pair[0], nil
}

// ask sends a query of the guest.
func (r *rig) ask(message []byte) namerelay.Outcome {
	return r.relay.Ask(r.now, &namerelay.Client{Key: flowtable.Key{GuestPort: 1024}}, message)
}

// answers lets a resolver answer, and the relay read that.
func (r *rig) reply(s *socket, messages ...[]byte) (strays int) {
	for _, m := range messages {
		_, err := unix.Write(s.peer, m)
		require.NoError(r.t, err)
	}
	strays, ok := r.relay.Event(r.now, s.gen, s.index)
	require.True(r.t, ok)
	return strays
}

// after lets time pass, and the relay do what is due.
func (r *rig) after(d int64) (starves bool) {
	r.now += d
	return r.relay.TendQueries(r.now)
}

// open returns the sockets that are open.
func (r *rig) opened() (list []*socket) {
	for _, s := range r.sockets {
		if !s.closed {
			list = append(list, s)
		}
	}
	return list
}

func TestTheFirstAnswerIsTheGuests(t *testing.T) {
	r := newRig(t, 2)
	q := question(7)
	require.Equal(t, namerelay.Passed, r.ask(q))
	require.Len(t, r.opened(), 1)
	first := r.sockets[0]
	require.True(t, first.asked())
	require.Equal(t, resolver(1), first.to)
	require.Zero(t, r.after(second))
	require.Len(t, r.opened(), 1, "the first has its time")
	r.after(second)
	require.Len(t, r.opened(), 2)
	require.True(t, r.sockets[1].asked())
	require.Equal(t, 2, r.reply(first, answer(question(8), 0), []byte{1}, answer(q, 0)), "what answers something else is not passed on")
	require.Equal(t, [][]byte{answer(q, 0)}, r.answers)
	require.Empty(t, r.opened())
	require.Empty(t, r.left)
}

func TestAnErrorIsTheAnswerIfNobodyKnowsBetter(t *testing.T) {
	const refused, servFail = 5, 2
	r := newRig(t, 2)
	q := question(7)
	r.ask(q)
	r.reply(r.sockets[0], answer(q, refused))
	require.Empty(t, r.answers)
	r.reply(r.sockets[1], answer(q, servFail))
	require.Len(t, r.answers, 1)
	require.EqualValues(t, refused, codeOf(r.answers[0]), "the first one's")
}

func TestAQueryThatIsRepeatedIsAskedOfTheNextResolver(t *testing.T) {
	r := newRig(t, 2)
	r.ask(question(7))
	require.Equal(t, namerelay.Repeated, r.ask(question(7)))
	require.Len(t, r.opened(), 2)
	require.True(t, r.sockets[0].asked())
	require.Equal(t, namerelay.Repeated, r.ask(question(7)))
	require.Len(t, r.opened(), 2)
	require.True(t, r.sockets[0].asked(), "all once more, by the same sockets")
	held, _ := r.guest.Queries()
	require.Equal(t, 1, held)
}

func TestAQueryHasFewSocketsAtOnce(t *testing.T) {
	r := newRig(t, 5)
	for range 10 {
		r.ask(question(7))
		require.LessOrEqual(t, len(r.opened()), 3)
	}
	require.Len(t, r.opened(), 3)
}

func TestTooManyQueriesAreAnswered(t *testing.T) {
	r := newRig(t, 1)
	_, most := r.guest.Queries()
	for i := range most {
		require.Equal(t, namerelay.Passed, r.ask(question(uint16(i))))
	}
	require.Empty(t, r.answers)
	require.Equal(t, namerelay.TooMany, r.ask(question(5000)))
	require.Len(t, r.answers, 1)
	require.EqualValues(t, 2, codeOf(r.answers[0]))
	r.relay.Forget()
	require.Empty(t, r.opened())
	require.Equal(t, namerelay.Passed, r.ask(question(5000)), "what was forgotten has given its place back")
}

func TestQueriesLeaveSocketsToFlows(t *testing.T) {
	r := newRig(t, 1)
	r.relay = namerelay.New(namerelay.Config{
		Guest: r.guest, Open: r.open, Close: func(int) {}, Sockets: func() int { return 12 },
		Reply: func(*namerelay.Client, []byte) bool { return true },
	})
	require.Equal(t, namerelay.Passed, r.ask(question(1)))
	require.Equal(t, namerelay.Passed, r.ask(question(2)))
	require.Equal(t, namerelay.TooMany, r.ask(question(3)), "each may take three")
	r.relay.Forget()
	for _, s := range r.sockets {
		s.closed = true
		require.NoError(t, unix.Close(s.fd))
	}
}

func TestWhatIsNoQueryIsRefused(t *testing.T) {
	r := newRig(t, 1)
	update := question(7)
	update[2] = 5 << 3
	require.Equal(t, namerelay.Refused, r.ask(update))
	require.Len(t, r.answers, 1)
	require.Equal(t, namerelay.Refused, r.ask([]byte{1}))
	require.Len(t, r.answers, 1, "what has no header gets no answer")
	require.Empty(t, r.opened())
}

// Who has no sockets cannot tell whether a resolver answers.
func TestAShortageDoesNotSpeakAgainstAResolver(t *testing.T) {
	for _, c := range []struct {
		err  error
		left int
	}{{namerelay.ErrNoRoom, 0}, {unix.EMFILE, 0}, {unix.ENETUNREACH, 2}, {errors.New("another"), 2}} {
		r := newRig(t, 2)
		r.openErr = c.err
		require.Equal(t, namerelay.Passed, r.ask(question(7)))
		require.Len(t, r.answers, 1, "%v", c.err)
		require.EqualValues(t, 2, codeOf(r.answers[0]), "%v", c.err)
		require.Len(t, r.left, c.left, "%v", c.err)
	}
}

func TestAnAnswerWaitsForRoom(t *testing.T) {
	r := newRig(t, 1)
	q := question(7)
	r.ask(q)
	r.noRoom = true
	r.reply(r.sockets[0], answer(q, 0))
	require.Empty(t, r.opened())
	require.True(t, r.after(0))
	require.Equal(t, namerelay.Repeated, r.ask(q), "it has its answer")
	require.Empty(t, r.opened())
	r.noRoom = false
	require.False(t, r.after(0))
	require.Equal(t, [][]byte{answer(q, 0)}, r.answers)

	r.ask(question(8))
	r.noRoom = true
	r.reply(r.sockets[1], answer(question(8), 0))
	require.True(t, r.after(second))
	require.False(t, r.after(10*second), "nor for ever")
	held, _ := r.guest.Queries()
	require.Zero(t, held)
}

func TestASilentResolverIsAskedLastUntilItAnswers(t *testing.T) {
	r := newRig(t, 2)
	q := question(7)
	r.ask(q)
	r.after(2 * second)
	r.reply(r.sockets[1], answer(q, 0))
	require.Equal(t, []netip.AddrPort{resolver(1)}, r.left)
	r.ask(question(8))
	require.Equal(t, resolver(2), r.sockets[2].to)
	r.reply(r.sockets[2], answer(question(8), 0))

	r.now += 30 * second
	r.ask(question(9))
	require.Equal(t, []netip.AddrPort{resolver(2), resolver(1)}, []netip.AddrPort{r.sockets[3].to, r.sockets[4].to}, "it is tried beside")
	r.reply(r.sockets[3], answer(question(9), 0))
	require.Len(t, r.answers, 3)
	r.reply(r.sockets[4], answer(question(9), 0))
	require.Len(t, r.answers, 3, "the guest has one already")
	require.Equal(t, []netip.AddrPort{resolver(1)}, r.back)
	require.Empty(t, r.opened())
}

func TestNobodyIsAwaitedForEver(t *testing.T) {
	r := newRig(t, 1)
	r.ask(question(7))
	require.NotZero(t, r.relay.Next(r.now))
	for range 6 {
		r.after(2 * second)
	}
	require.Empty(t, r.opened())
	require.Zero(t, r.relay.Next(r.now))
	require.Empty(t, r.answers, "the resolver has given it up itself")
}

func TestEventsOfOldSocketsAreTold(t *testing.T) {
	r := newRig(t, 1)
	q := question(7)
	r.ask(q)
	r.reply(r.sockets[0], answer(q, 0))
	r.ask(question(8))
	for _, name := range [][2]uint32{{r.sockets[0].gen, r.sockets[0].index}, {r.sockets[1].gen, 1 << 8}, {r.sockets[1].gen, 200}} {
		_, ok := r.relay.Event(r.now, name[0], name[1])
		require.False(t, ok)
	}
}
