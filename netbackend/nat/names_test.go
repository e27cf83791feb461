package nat_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/dnszone"
)

// The codes of answers (RFC 1035 section 4.1.1).
const (
	noError  = 0
	formErr  = 1
	servFail = 2
	notImp   = 4
	refused  = 5
)

// question is a query for the address of a name of one label.
func question(id uint16, name string) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = append(b, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, byte(len(name)))
	return append(append(b, name...), 0, 0, 1, 0, 1)
}

// answerTo is an answer with a code to a query.
func answerTo(query []byte, code byte) []byte {
	b := append([]byte{}, query...)
	b[2] |= 0x80
	b[3] = b[3]&0xf0 | code
	return b
}

// testResolver answers by UDP and TCP on one port of the loopback.
type testResolver struct {
	addr   netip.AddrPort
	packet *net.UDPConn
	listen *net.TCPListener

	mu    sync.Mutex
	how   func(query []byte) [][]byte // what is sent for a query
	whole func(query []byte) [][]byte // the same by TCP; nil for how
	asked []string                    // queries by UDP, as they came
}

func always(code byte) func([]byte) [][]byte {
	return func(query []byte) [][]byte { return [][]byte{answerTo(query, code)} }
}

func silence([]byte) [][]byte { return nil }

// newResolver starts a resolver at an address of the host.
func newResolver(t *testing.T, ip string, how func(query []byte) [][]byte) *testResolver {
	t.Helper()
	r := &testResolver{how: how}
	require.Eventually(t, func() bool {
		packet, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), 0)))
		require.NoError(t, err)
		r.packet, r.addr = packet, addrPort(packet.LocalAddr())
		r.listen, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(r.addr))
		if err != nil {
			require.NoError(t, packet.Close()) // somebody has that port by TCP
		}
		return err == nil
	}, time.Minute, time.Millisecond)
	t.Cleanup(func() { _, _ = r.packet.Close(), r.listen.Close() })
	go r.serveUDP()
	go r.serveTCP()
	return r
}

func (r *testResolver) answers(how func(query []byte) [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.how = how
}

// answersLong lets r answer by so many bytes more than fit a datagram: by UDP that they do not fit, by TCP whole.
func (r *testResolver) answersLong(more []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.how = cutShort
	r.whole = func(query []byte) [][]byte { return [][]byte{append(answerTo(query, noError), more...)} }
}

// cutShort is how a resolver answers by UDP what does not fit.
func cutShort(query []byte) [][]byte {
	cut := answerTo(query, noError)
	cut[2] |= 2
	return [][]byte{cut}
}

func (r *testResolver) serveUDP() {
	buf := make([]byte, 65536)
	for {
		n, from, err := r.packet.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.asked = append(r.asked, string(buf[:n]))
		how := r.how
		r.mu.Unlock()
		for _, b := range how(buf[:n:n]) {
			_, _ = r.packet.WriteToUDPAddrPort(b, from)
		}
	}
}

func (r *testResolver) serveTCP() {
	for {
		conn, err := r.listen.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			for {
				var length [2]byte
				if _, err := io.ReadFull(conn, length[:]); err != nil {
					return
				}
				query := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(conn, query); err != nil {
					return
				}
				r.mu.Lock()
				how := r.how
				if r.whole != nil {
					how = r.whole
				}
				r.mu.Unlock()
				for _, b := range how(query) {
					_, _ = conn.Write(framed(b))
				}
			}
		}()
	}
}

// queries returns how many have come by UDP.
func (r *testResolver) queries() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked)
}

// last returns the last one.
func (r *testResolver) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[len(r.asked)-1]
}

// framed is a message as a stream has it.
func framed(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }

// newAsking returns a guest whose host has these resolvers.
func newAsking(t *testing.T, s setup, resolvers ...netip.AddrPort) *bench {
	t.Helper()
	inner := s.config
	s.config = func(c *nat.Config) {
		if len(resolvers) > 0 {
			c.Resolvers = dns.Plain(resolvers...)
		}
		if inner != nil {
			inner(c)
		}
	}
	b := newBench(t, s)
	b.Resolve()
	return b
}

var (
	nameServer  = netip.MustParseAddrPort("10.0.2.3:53")
	nameServer6 = netip.MustParseAddrPort("[fd00:10:0:2::3]:53")
)

// ask sends a query from a port of the guest.
func (b *bench) ask(port uint16, query []byte) {
	b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.IP, port), Dst: nameServer, Payload: query})
}

// reply waits for an answer to the guest.
func (b *bench) resolved(what string) []byte {
	b.t.Helper()
	var got []*porttest.Datagram
	b.Until(what, func() bool { got = b.Datagrams(); return len(got) > 0 })
	require.Len(b.t, got, 1, what)
	return got[0].Payload
}

// asks sends a query and returns the code of its answer, which comes without waiting for a timer.
func (b *bench) asks(port uint16, name string) byte {
	b.t.Helper()
	query := question(port, name)
	b.ask(port, query)
	got := b.resolved("the answer to " + name)
	require.Equal(b.t, answerTo(query, got[3]&0xf)[:len(query)], got[:len(query)])
	return got[3] & 0xf
}

// count waits until a resolver was asked so often.
func (b *bench) count(r *testResolver, n int) {
	b.t.Helper()
	b.Until("queries that arrive", func() bool { return r.queries() >= n })
	require.Equal(b.t, n, r.queries())
}

func TestD1TheNextResolverIsAskedWhenOneIsSilent(t *testing.T) {
	for name, ips := range map[string][2]string{"IPv4": {"127.0.0.1", "127.0.0.1"}, "IPv6": {"::1", "127.0.0.1"}} {
		t.Run(name, func(t *testing.T) {
			first, second := newResolver(t, ips[0], silence), newResolver(t, ips[1], always(noError))
			b := newAsking(t, setup{}, first.addr, second.addr)
			b.ask(1024, question(7, "a"))
			b.count(first, 1)
			b.Run(1400 * time.Millisecond)
			require.Zero(t, second.queries(), "the first has its time")
			b.Run(200 * time.Millisecond)
			require.EqualValues(t, noError, b.resolved("the second resolver's answer")[3]&0xf)
			require.EqualValues(t, 1, b.port.Counters().ResolversLeft)
			require.Equal(t, "a resolver of the host does not answer; others are asked before it", b.Notices()[0].Message)
			require.Zero(t, b.Sockets())

			require.EqualValues(t, noError, b.asks(1025, "b"))
			require.Equal(t, 1, first.queries(), "nobody waits for it any more")

			b.Advance(10 * time.Second)
			first.answers(always(noError))
			require.EqualValues(t, noError, b.asks(1026, "c"))
			b.count(first, 2) // it is tried beside the other one
			b.Until("its answer", func() bool { return b.Sockets() == 0 })
			require.Empty(t, b.Datagrams(), "the guest has one already")
			b.count(second, 3)
			require.EqualValues(t, noError, b.asks(1027, "d"))
			b.count(first, 3)
			require.Equal(t, 3, second.queries(), "it is the first again")
		})
	}
}

func TestD1AQueryThatIsRepeatedGoesToTheNextResolver(t *testing.T) {
	first, second := newResolver(t, "127.0.0.1", silence), newResolver(t, "127.0.0.1", silence)
	b := newAsking(t, setup{}, first.addr, second.addr)
	query := question(7, "a")
	b.ask(1024, query)
	b.count(first, 1)
	b.ask(1024, query)
	b.Settle() // the clock stands still: the second is not asked because of the first one's silence
	require.Eventually(t, func() bool { return second.queries() == 1 }, 2*time.Minute, time.Millisecond)
	require.Equal(t, 1, first.queries())
	b.ask(1024, query)
	b.count(first, 2) // all once more
	require.Equal(t, 2, b.Sockets(), "by the same sockets, that late answers arrive")
	second.answers(always(noError))
	b.ask(1024, query)
	require.EqualValues(t, noError, b.resolved("the answer")[3]&0xf)
	require.EqualValues(t, 1, b.port.Counters().Queries, "it is one query")
}

// A name that takes its time is no fault of a resolver, which is not left for it.
func TestD1AResolverThatAnswersOthersIsNotLeft(t *testing.T) {
	first := newResolver(t, "127.0.0.1", func(query []byte) [][]byte {
		if query[13] == 's' {
			return nil
		}
		return always(noError)(query)
	})
	second := newResolver(t, "127.0.0.1", always(noError))
	b := newAsking(t, setup{}, first.addr, second.addr)
	b.ask(1024, question(7, "slow"))
	b.count(first, 1)
	b.Advance(time.Second)
	require.EqualValues(t, noError, b.asks(1025, "quick"))
	b.Run(time.Second)
	b.resolved("the second resolver's answer to the slow one")
	require.Zero(t, b.port.Counters().ResolversLeft)
	require.EqualValues(t, noError, b.asks(1026, "quick"))
	require.Equal(t, 3, first.queries())
}

// failures are routes that make each error of sending, by their kinds.
func failures() map[string]int {
	return map[string]int{
		"host unreachable": unix.RTN_UNREACHABLE, "prohibited": unix.RTN_PROHIBIT, "invalid": unix.RTN_BLACKHOLE,
		"network unreachable": unix.RTN_THROW,
	}
}

func TestD2TheNextResolverIsAskedWhenOneCannotBeReached(t *testing.T) {
	if inNamespace(t) {
		return
	}
	second := newResolver(t, "127.0.0.1", always(noError))
	for n, is4 := range []bool{true, false} {
		i := byte(10)
		for name, kind := range failures() {
			i++
			to, bits := netip.AddrFrom4([4]byte{192, 0, 2, i}), "/32"
			if !is4 {
				to, bits = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: i}), "/128"
			}
			route(t, kind, to.String()+bits)
			t.Run(name+" "+to.String(), func(t *testing.T) {
				b := newAsking(t, setup{}, netip.AddrPortFrom(to, 53), second.addr)
				require.EqualValues(t, noError, b.asks(uint16(1024+n), "a"), "at once")
				require.Equal(t, noError, int(b.lookUp("b")[3]&0xf), "by TCP too")
				require.Zero(t, b.port.Counters().Unreachables, "that is no matter of the guest")
			})
		}
	}
	t.Run("port unreachable", func(t *testing.T) {
		for _, a := range []string{"127.0.0.1", "::1"} {
			dead := newResolver(t, a, silence)
			require.NoError(t, errors.Join(dead.packet.Close(), dead.listen.Close()))
			b := newAsking(t, setup{}, dead.addr, second.addr)
			require.EqualValues(t, noError, b.asks(1024, "a"), "at once")
			require.EqualValues(t, noError, b.lookUp("b")[3]&0xf, "by TCP too")
			alone := newAsking(t, setup{}, dead.addr)
			require.EqualValues(t, servFail, alone.asks(1024, "a"), "if there is no other one")
		}
	})
	t.Run("all of them", func(t *testing.T) {
		b := newAsking(t, setup{}, at("192.0.2.11:53"), at("192.0.2.12:53"), at("[2001:db8::d]:53"))
		require.EqualValues(t, servFail, b.asks(1024, "a"))
		require.EqualValues(t, servFail, b.lookUp("a")[3]&0xf, "by TCP too")
		require.Zero(t, b.Sockets())
	})
}

// lookUp asks by TCP, and returns the answer.
func (b *bench) lookUp(name string) []byte {
	b.t.Helper()
	c := b.Connect(nameServer)
	c.Send(framed(question(9, name)))
	answer := b.answerBy(c)
	c.Close()
	b.Until("the end", c.Ended)
	return answer
}

// answerBy takes the answer that comes on a connection to the name server.
func (b *bench) answerBy(c *porttest.TCP) []byte {
	b.t.Helper()
	return b.answersBy(c, 1)[0]
}

// answersBy takes n answers that come on a connection, and no more.
func (b *bench) answersBy(c *porttest.TCP, n int) (all [][]byte) {
	b.t.Helper()
	var in []byte
	b.Until("answers by TCP", func() bool {
		in = append(in, c.Read()...)
		for len(in) >= 2 && len(in) >= 2+int(binary.BigEndian.Uint16(in)) {
			end := 2 + int(binary.BigEndian.Uint16(in))
			all, in = append(all, in[2:end]), in[end:]
		}
		return len(all) >= n || c.Ended()
	})
	require.Empty(b.t, in)
	require.Len(b.t, all, n)
	return all
}

// Which answers are a reason to ask the next one is as with the C library.
func TestD4AResolverThatCannotAnswerIsNotTheLast(t *testing.T) {
	for code, want := range map[byte]byte{servFail: noError, notImp: noError, refused: noError, formErr: formErr, 3: 3} {
		first, second := newResolver(t, "127.0.0.1", always(code)), newResolver(t, "127.0.0.1", always(noError))
		b := newAsking(t, setup{}, first.addr, second.addr)
		for i := range 2 {
			require.Equal(t, want, b.asks(uint16(1024+i), "a"), "code %d", code)
		}
		require.Equal(t, 2, first.queries(), "it is still the first: it may know other names")
		require.Zero(t, b.port.Counters().ResolversLeft)

		second.answers(always(servFail))
		if want == noError {
			require.Equal(t, code, b.asks(1030, "a"), "the first error is the guest's if nobody knows better")
			second.answers(silence)
			query := question(8, "b")
			b.ask(1031, query)
			b.count(second, 4)
			b.Run(2 * time.Second)
			require.Equal(t, answerTo(query, code), b.resolved("after a second and a half"))
		}
	}
}

func TestD9QueriesAndAnswersPassAsTheyAre(t *testing.T) {
	r := newResolver(t, "127.0.0.1", always(noError))
	query := append(question(7, "a"), 0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 0) // EDNS for 4096 bytes, DNSSEC
	query[11] = 1
	for name, n := range map[string]int{"short": 0, "in fragments": 3900, "the longest": 65507 - len(query)} {
		t.Run(name, func(t *testing.T) {
			answer := noise(n)
			r.answers(func(query []byte) [][]byte {
				stray := answerTo(query, noError)
				stray[0]++ // of another query
				return [][]byte{stray, query, query[:5], append(answerTo(query, noError), answer...)}
			})
			b := newAsking(t, setup{}, r.addr)
			b.ask(1024, query)
			require.Equal(t, append(answerTo(query, noError), answer...), b.resolved("the answer"))
			require.EqualValues(t, 3, b.port.Counters().Strangers)
			require.Equal(t, string(query), r.last())
			require.Zero(t, b.Sockets())
		})
	}
	t.Run("truncated", func(t *testing.T) {
		r.answers(func(query []byte) [][]byte {
			cut := answerTo(query, noError)
			cut[2] |= 2
			return [][]byte{cut}
		})
		b := newAsking(t, setup{}, r.addr)
		b.ask(1024, question(7, "a"))
		require.NotZero(t, b.resolved("the answer")[2]&2, "and the guest asks again by TCP")
	})
	t.Run("from an IPv6 guest", func(t *testing.T) {
		b := newAsking(t, setup{}, r.addr)
		b.SendDatagram(porttest.Datagram{Src: at("[fd00:10:0:2::15]:1024"), Dst: nameServer6, Payload: query})
		var got []*porttest.Datagram
		b.Until("the answer", func() bool { got = b.Datagrams(); return len(got) > 0 })
		require.Equal(t, nameServer6, got[0].Src)
	})
}

func TestD9AnAnswerWaitsForReceiveBuffers(t *testing.T) {
	r := newResolver(t, "127.0.0.1", always(noError))
	b := newAsking(t, setup{guest: porttest.Options{RingSize: 16}}, r.addr)
	b.Withhold = true
	for i := range 40 {
		b.ask(uint16(1024+i), question(7, "a"))
	}
	b.count(r, 40)
	b.Settle()
	require.Less(t, len(b.Datagrams()), 40)
	b.Withhold = false
	b.Post(16)
	got := 0
	b.Until("all answers", func() bool {
		got += len(b.Datagrams())
		return b.Sockets() == 0 && b.port.Counters().NoRoom == 0 && got >= 24
	})
}

func TestD10AResolvConfThatChangesCountsForTheNextQuery(t *testing.T) {
	if inNamespace(t) {
		return
	}
	dir := t.TempDir()
	file := dir + "/resolv.conf"
	var asked [2]chan string
	for i, ip := range []string{"127.0.0.1", "127.0.0.2"} {
		asked[i] = make(chan string, 10)
		serveOn53(t, ip, asked[i])
	}
	require.NoError(t, writeFile(file, "nameserver 127.0.0.1\n"))
	b := newAsking(t, setup{config: func(c *nat.Config) { c.ResolvConf = file }})
	require.EqualValues(t, noError, b.asks(1024, "a"))
	c := b.Connect(nameServer)
	require.NoError(t, writeFile(file, "nameserver 127.0.0.2\n"))
	b.Advance(time.Second)
	require.EqualValues(t, noError, b.asks(1025, "b"))
	require.Equal(t, "b", <-asked[1])
	c.Send(framed(question(9, "c")))
	require.EqualValues(t, noError, b.answerBy(c)[3]&0xf, "a connection that was open before")
	require.Equal(t, "c", <-asked[1])
}

// Only the guest's own queries are answered by what it was answered before, and the resolver is asked by others.
func TestAnswersAreKeptForTheGuestIfThatIsWanted(t *testing.T) {
	for name, kept := range map[string]bool{"kept": true, "not kept": false} {
		t.Run(name, func(t *testing.T) {
			r := newResolver(t, "127.0.0.1", func(query []byte) [][]byte {
				answer := answerTo(query, noError)
				answer[7] = 1
				return [][]byte{append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1)}
			})
			b := newAsking(t, setup{config: func(c *nat.Config) { c.DNSCache = kept }}, r.addr)
			other := newAsking(t, setup{config: func(c *nat.Config) { c.DNSCache = kept }}, r.addr)
			asks := func(b *bench, id uint16) {
				b.ask(1024+id, question(id, "a"))
				require.Equal(t, byte(id), b.resolved("the answer")[1], "the ID is that of the query")
			}
			for i := range uint16(3) {
				asks(b, i)
			}
			b.count(r, map[bool]int{true: 1, false: 3}[kept])
			require.EqualValues(t, map[bool]int{true: 2, false: 0}[kept], b.port.Counters().QueriesCached)
			before := r.queries()
			asks(other, 9)
			other.count(r, before+1)

			names := b.port.CachedNames(b.Now())
			require.Equal(t, kept, names != nil)
			require.Len(t, names, b.port.ForgetNames())
			require.Empty(t, b.port.CachedNames(b.Now()))
			asks(b, 9)
			b.count(r, before+2)
		})
	}
}

func TestNamesOfTheConfigurationAreAnsweredWithoutAResolver(t *testing.T) {
	r := newResolver(t, "127.0.0.1", func(query []byte) [][]byte { return [][]byte{answerTo(query, noError)} })
	named := func(texts ...string) func(*nat.Config) {
		return func(c *nat.Config) {
			c.Resolvers = dns.Plain(r.addr)
			for _, text := range texts {
				e, err := dnszone.ParseEntry(text)
				require.NoError(t, err)
				c.Names = append(c.Names, e)
			}
		}
	}
	b := newAsking(t, setup{config: named("a@internal=192.0.2.1")}, r.addr)
	question := func(id uint16, name string) []byte {
		q, err := new(mdns.Msg).SetQuestion(name, mdns.TypeA).Pack()
		require.NoError(t, err)
		q[0], q[1] = byte(id>>8), byte(id)
		return q
	}
	b.ask(1024, question(7, "a.internal."))
	answer := b.resolved("the answer")
	require.Equal(t, []byte{0, 7}, answer[:2])
	require.Equal(t, []byte{192, 0, 2, 1}, answer[len(answer)-4:])
	require.Zero(t, r.queries())
	require.EqualValues(t, 1, b.port.Counters().QueriesNamed)

	b.port.SetPolicy(newPolicy(t, named("a@internal=192.0.2.2")))
	b.ask(1025, question(8, "a.internal."))
	answer = b.resolved("the answer of now")
	require.Equal(t, []byte{192, 0, 2, 2}, answer[len(answer)-4:])
	b.ask(1026, question(9, "internal."))
	b.resolved("the resolver's answer")
	require.Equal(t, 1, r.queries())
}
