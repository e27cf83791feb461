package nat_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/audit"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/porttest"
)

// short is a datagram as a client sends it once its connection is there.
func short(text string) []byte { return []byte("\x40" + text) }

func TestNoDatagramLeavesBeforeTheNameInQUICIsAllowed(t *testing.T) {
	if inNamespace(t) {
		return
	}
	for _, version := range []uint32{quic1, quic2} {
		t.Run(fmt.Sprint(version), func(t *testing.T) { showsItsName(t, version) })
	}
}

func showsItsName(t *testing.T, version uint32) {
	b := newQUIC(t, nil, usual...)
	c := newQUICClient(t, "12345678")
	c.version = version
	m := quicHello("Good.Example", 900, 1500)
	datagrams := [][]byte{
		c.initial(cryptoFrame(m, 1800, len(m)), []byte{1}, cryptoFrame(m, 300, 600)),
		c.initial(cryptoFrame(m, 500, 1100), cryptoFrame(m, 3, 300)),
		c.initial(cryptoFrame(m, 1100, 1800)),
		c.initial(cryptoFrame(m, 0, 3)),
	}
	for i, d := range datagrams {
		b.requireGot()
		b.send(d)
		require.Equal(t, 1, b.held(), i)
	}
	b.requireGot(datagrams...)
	b.send(short("first"), c.long(1, "early data"), short("second"))
	b.requireGot(short("first"), c.long(1, "early data"), short("second"))
	require.Equal(t, 1, b.held(), "its Initial packets may come again")
	b.send(c.initial([]byte{2, 0, 0, 0, 0}), c.long(2, strings.Repeat("finished", 5)))
	require.Len(t, b.got(), 2)
	require.Zero(t, b.held(), "its Initial packets are over")
	require.Zero(t, b.counters().Denied)
	begun := b.entries()
	require.Len(t, begun, 1)
	require.Equal(t, audit.Begun, begun[0].Kind)
	b.bench.port.SetPolicy(newPolicy(t, quicRules(t)))
	b.Turn()
	b.Settle()
	ended := b.entries()
	require.Equal(t, audit.Ended, ended[len(ended)-1].Kind)
	require.Equal(t, "good.example", ended[len(ended)-1].Name)
}

func TestAnAssociationThatNamesNoAllowedServerIsRefused(t *testing.T) {
	if inNamespace(t) {
		return
	}
	client := func() *quicClient { return newQUICClient(t, "12345678") }
	m := quicHello("good.example", 0, 0)
	good := client().whole("good.example")
	changed := func(at int, to byte) []byte {
		d := bytes.Clone(good)
		d[at] = to
		return d
	}
	ech := func(name string) []byte {
		m := quicHello(name, 0, 0)
		m = append(m, 0xfe, 0x0d, 0, 4, 0, 1, 2, 3)
		at := len(m) - 8
		grow := func(i int) { m[i] += 8 }
		grow(3)
		grow(4 + 2 + 32 + 1 + 4 + 2 + 1)
		require.Less(t, at, 250)
		return client().initial(cryptoFrame(m, 0, len(m)))
	}
	two := func() []byte {
		a, b := client(), newQUICClient(t, "87654321")
		return slices.Concat(a.whole("good.example"), b.whole("good.example"))
	}
	for what, c := range map[string]struct {
		datagram   []byte
		name, want string // in the audit log: the name and the verdict or detail
	}{
		"another name":                            {client().whole("bad.example"), "bad.example", "unlisted"},
		"a name without quic=verify":              {client().whole("tcp.example"), "tcp.example", "unlisted"},
		"a right name at the address of another":  {client().whole("elsewhere.example"), "elsewhere.example", "unlisted"},
		"a name inside another one":               {client().whole("good.example.bad.example"), "good.example.bad.example", "unlisted"},
		"no name":                                 {client().whole(""), "", "unlisted"},
		"an address for a name":                   {client().whole("198.51.100.1"), "", "unlisted"},
		"an empty datagram":                       {nil, "", "unlisted"},
		"a short header":                          {short("anything"), "", "unlisted"},
		"DTLS":                                    {[]byte("\x16\xfe\xfd\x00\x00"), "", "unlisted"},
		"ECH with an outer name that no rule has": {ech("bad.example"), "bad.example", "unlisted"},
		"a version that nobody knows":             {changed(4, 7), "", "neither 1 nor 2"},
		"a Version Negotiation":                   {changed(4, 0), "", "neither 1 nor 2"},
		"a Retry":                                 {changed(0, 0xf0), "", "malformed"},
		"keys of another version":                 {func() []byte { d := bytes.Clone(good); copy(d[1:], "\x6b\x33\x43\xcf"); d[0] |= 0x10; return d }(), "", "no connection that began here"},
		"a packet that does not decrypt":          {changed(len(good)-1, good[len(good)-1]^1), "", "no connection that began here"},
		"a packet that is cut":                    {good[:len(good)-9], "", "malformed"},
		"a STREAM frame":                          {client().initial([]byte{8, 0, 0}), "", "malformed"},
		"a hello that contradicts itself":         {client().initial(cryptoFrame(m, 0, 60), cryptoFrame(quicHello("bad.example", 1, 0), 40, 80)), "", "contradict"},
		"another message":                         {client().initial(cryptoFrame([]byte{2, 0, 0, 1, 3}, 0, 5)), "", "TLS handshake"},
		"two connections in one datagram":         {two(), "", "malformed"},
		"two hellos with two names in one datagram": {func() []byte {
			x := slices.Concat(m, quicHello("bad.example", 0, 0))
			return client().initial(cryptoFrame(x, 0, len(x)))
		}(), "", "contradict"},
		"a hello longer than what is kept": {client().initial(cryptoFrame([]byte{1, 0, 0x7f, 0xff, 3}, 0, 5)), "", "16 KiB"},
	} {
		t.Run(what, func(t *testing.T) {
			b := newQUIC(t, nil, usual...)
			before := b.counters()
			b.send(c.datagram)
			b.requireGot()
			all := b.refusals()
			require.Len(t, all, 1)
			if c.name == "" {
				c.name = "tcp.example" // the last that the guest was told for the address
			}
			require.Equal(t, c.name, all[0].Name)
			require.Contains(t, all[0].Verdict+" "+all[0].Detail, c.want)
			require.Equal(t, at(quicServer), all[0].To)
			after := b.counters()
			require.EqualValues(t, 1, after.Denied-before.Denied)
			require.EqualValues(t, 1, after.ProofsRefused)
			require.EqualValues(t, 1, after.Unreachables-before.Unreachables, "the guest is told")
			require.Zero(t, b.held())
			require.Zero(t, b.associations())
			b.send(newQUICClient(t, "another one").whole("good.example"))
			require.Len(t, b.got(), 1, "the next one is judged by itself")
		})
	}
}

func TestECHGoesOnUnderAnOuterNameThatIsAllowed(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, nil, usual...)
	m := quicHello("good.example", 0, 0)
	m = append(m, 0xfe, 0x0d, 0, 4, 0, 1, 2, 3)
	m[3] += 8
	m[4+2+32+1+4+2+1] += 8
	d := newQUICClient(t, "12345678").initial(cryptoFrame(m, 0, len(m)))
	b.send(d)
	b.requireGot(d)
}

func TestAClientMayClearTheQUICBit(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, nil, usual...)
	c := newQUICClient(t, "12345678")
	c.first = 0x40
	d := c.whole("good.example")
	b.send(d, []byte("\x00short"))
	b.requireGot(d, []byte("\x00short"))
}

func TestAUserIsToldOfANameInQUICOnceWithTheRuleThatOpensIt(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, nil, usual...)
	for i := range 3 {
		b.port++
		b.send(newQUICClient(t, fmt.Sprint("1234567", i)).whole("bad.example"))
	}
	var told []string
	for _, n := range b.Notices() {
		if strings.Contains(n.Message, "by its name") {
			told = append(told, n.Message)
		}
	}
	require.Equal(t, []string{"the guest was denied a server by its name, which --allow-name 'udp:bad.example:443;quic=verify' opens, once the guest has asked for the name"}, told)
}

func TestWhatIsKeptOfAQUICAssociationIsBounded(t *testing.T) {
	if inNamespace(t) {
		return
	}
	m := quicHello("good.example", 4000, 4000)
	for what, datagrams := range map[string]func(c *quicClient) [][]byte{
		"four datagrams": func(c *quicClient) (all [][]byte) {
			for i := range 5 {
				all = append(all, c.initial(cryptoFrame(m, i, i+1)))
			}
			return all
		},
		"8 KiB": func(c *quicClient) (all [][]byte) {
			for i := range 3 {
				all = append(all, c.initial(cryptoFrame(m, i, i+1), make([]byte, 3000)))
			}
			return all
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newQUIC(t, nil, usual...)
			all := datagrams(newQUICClient(t, "12345678"))
			last := len(all) - 1
			b.send(all[:last]...)
			require.Equal(t, 1, b.held())
			b.send(all[last])
			b.requireGot()
			require.Zero(t, b.held())
			require.Zero(t, b.associations())
			require.Contains(t, b.refusals()[0].Detail, "more than four datagrams or 8 KiB")
			require.EqualValues(t, last, b.counters().HellosDropped, "beside the one that is denied")
		})
	}
}

func TestAHelloOfQUICThatDoesNotComeInTimeIsRefused(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, nil, usual...)
	c := newQUICClient(t, "12345678")
	m := quicHello("good.example", 0, 0)
	b.send(c.long(1, "early data"))
	b.Run(2 * time.Second)
	b.send(c.initial(cryptoFrame(m, 0, 20)))
	b.Run(2900 * time.Millisecond)
	require.Equal(t, 1, b.associations())
	b.Run(200 * time.Millisecond)
	require.Zero(t, b.associations(), "five seconds behind the first")
	require.Zero(t, b.held())
	require.EqualValues(t, 1, b.counters().ProofsLate)
	require.EqualValues(t, 1, b.counters().HellosDropped)
	b.send(c.initial(cryptoFrame(m, 20, len(m))))
	b.requireGot()
}

// The time of one that waits runs out by itself, also when that of another one has run out before.
func TestEachHelloOfQUICHasATimeOfItsOwn(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, nil, usual...)
	m := quicHello("good.example", 0, 0)
	for i := range 3 {
		b.port++
		b.send(newQUICClient(t, fmt.Sprintf("%08d", i)).initial(cryptoFrame(m, 0, 20)))
		b.Run(time.Second)
	}
	b.Run(1900 * time.Millisecond)
	for left := 3; left > 0; left-- {
		require.Equal(t, left, b.held())
		b.Run(time.Second)
	}
	require.Zero(t, b.held())
	require.EqualValues(t, 3, b.counters().ProofsLate)
}

func TestAPartOfAHelloThatComesAgainIsNotLetThrough(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, nil, usual...)
	b.send(newQUICClient(t, "the allowed").whole("good.example"))
	require.Len(t, b.got(), 1)
	m := quicHello("good.example", 0, 1500)
	c := newQUICClient(t, "12345678")
	b.send(c.initial(cryptoFrame(m, 0, 900)), c.initial(cryptoFrame(m, 0, 900)), c.initial(cryptoFrame(m, 0, 900), []byte{1}))
	b.requireGot()
	require.Equal(t, 1, b.held())
	b.send(c.initial(cryptoFrame(m, 900, len(m))))
	require.Len(t, b.got(), 4)
}

// What follows a datagram by which an association was refused, in the same frame, is not looked at for it any more.
func TestARefusalEndsTheFrame(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, nil, usual...)
	const size = 1200
	fill := func(d []byte) []byte { return append(d, make([]byte, size-len(d))...) }
	bad := fill(newQUICClient(t, "another one").whole("bad.example"))
	b.SendDatagram(porttest.Datagram{Src: b.from(), Dst: at(quicServer), Payload: slices.Concat(bad, bad, fill(newQUICClient(t, "a right one").whole("good.example"))), GSOSize: size})
	b.Settle()
	b.requireGot()
	require.Len(t, b.refusals(), 1)
	require.EqualValues(t, 1, b.counters().ProofsRefused)
	require.Zero(t, b.associations())
	require.Zero(t, b.held())
}

// A guest that names one server after the other does not fill the log.
func TestHowManyDeniedServersAUserIsToldOfIsBounded(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, nil, usual...)
	for i := range 2 * limits.MostTold {
		b.port++
		b.send(newQUICClient(t, fmt.Sprintf("%08d", i)).whole(fmt.Sprintf("bad%d.example", i)))
		b.Run(10 * time.Millisecond)
	}
	require.EqualValues(t, 2*limits.MostTold, b.counters().ProofsRefused)
	told := 0
	for _, n := range b.Notices() {
		if strings.Contains(n.Message, "by its name") {
			told++
		}
	}
	require.Equal(t, limits.MostTold, told)
}

func TestAHelloThatWasAllowedIsForgottenAfterTenSeconds(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, nil, usual...)
	c := newQUICClient(t, "12345678")
	b.send(c.whole("good.example"))
	b.Run(9900 * time.Millisecond)
	require.Equal(t, 1, b.held())
	b.Run(200 * time.Millisecond)
	require.Zero(t, b.held())
	require.Equal(t, 1, b.associations())
	b.got()
	b.send(short("on"))
	b.requireGot(short("on"))
}

func TestTooManyHeldAssociationsPushEachOtherOut(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, nil, usual...)
	_, most := nat.HeldByQUIC(b.bench.port)
	b.send(newQUICClient(t, "the allowed").whole("good.example"))
	m := quicHello("good.example", 0, 0)
	half := func(i int) []byte { return newQUICClient(t, fmt.Sprintf("%08d", i)).initial(cryptoFrame(m, 0, 20)) }
	for i := range most {
		b.port++
		b.send(half(i))
		b.Advance(time.Millisecond)
	}
	require.Equal(t, most, b.held())
	require.Equal(t, most+1, b.associations(), "that whose name is known goes on, and is followed no more")
	require.Zero(t, b.counters().ProofsEvicted)
	b.port++
	b.send(half(most))
	require.Equal(t, most, b.held())
	require.EqualValues(t, 1, b.counters().ProofsEvicted)
	refused := b.refusals()
	require.Len(t, refused, 1)
	require.Equal(t, uint16(5001), refused[0].From.Port(), "that which has waited longest")
	b.got()
	b.port = 5000
	b.send(short("on"))
	b.requireGot(short("on"))
}

func TestMoreHellosThanAreLookedAtAreDropped(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, nil, usual...)
	c := newQUICClient(t, "12345678")
	b.send(c.whole("good.example"))
	ping := c.initial([]byte{1})
	require.Len(t, b.got(), 1)
	passed := 0
	for range 100 {
		for range 50 {
			b.SendDatagram(porttest.Datagram{Src: b.from(), Dst: at(quicServer), Payload: ping})
		}
		b.Settle()
		passed += len(b.got())
	}
	require.NotZero(t, b.counters().HellosOverBudget)
	require.EqualValues(t, 100*50, uint64(passed)+b.counters().HellosOverBudget)
	b.send(short("on"))
	b.requireGot(short("on"))
	b.Run(time.Second)
	b.send(ping)
	b.requireGot(ping)
}

func TestAClientThatIsToldToBeginAnewIsJudgedAnew(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, nil, usual...)
	first, m := newQUICClient(t, "12345678"), quicHello("good.example", 0, 1500)
	retried := newQUICClient(t, "by a Retry")
	retried.number = 7
	another := newQUICClient(t, "of another version")
	another.version = quic2
	for _, c := range []*quicClient{first, retried, another} {
		datagrams := [][]byte{c.initial(cryptoFrame(m, 0, 900)), c.initial(cryptoFrame(m, 900, len(m)))}
		b.send(datagrams[0])
		b.requireGot()
		b.send(datagrams[1])
		b.requireGot(datagrams...)
	}
	first.version, first.to = quic2, "the server's choice"
	b.send(first.initial([]byte{1}))
	b.requireGot()
	require.Contains(t, b.refusals()[0].Detail, "no connection that began here")
	b.send(short("on"))
	b.requireGot(short("on"))
}

func TestAServerMayChangeTheVersionAndAskForASecondHello(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, nil, usual...)
	c, m := newQUICClient(t, "12345678"), quicHello("good.example", 0, 0)
	both := slices.Concat(m, m)
	b.send(c.whole("good.example"))
	c.version, c.to = quic2, "the server's choice"
	ack := c.initial([]byte{2, 0, 0, 0, 0})
	b.send(ack, c.initial(cryptoFrame(both, len(m), len(m)+20)))
	require.Len(t, b.got(), 2)
	last := c.initial(cryptoFrame(both, len(m)+20, len(both)))
	b.send(last)
	require.Len(t, b.got(), 2, "with the part that waited")
	require.Zero(t, b.counters().Denied)
}

func TestASecondHelloWithAnotherNameIsRefused(t *testing.T) {
	if inNamespace(t) {
		return
	}
	for _, name := range []string{"bad.example", "also.example"} {
		t.Run(name, func(t *testing.T) {
			b := newQUIC(t, nil, usual...)
			c := newQUICClient(t, "12345678")
			m := slices.Concat(quicHello("good.example", 0, 0), quicHello(name, 0, 0))
			b.send(c.whole("good.example"))
			b.got()
			b.send(c.initial(cryptoFrame(m, len(quicHello("good.example", 0, 0)), len(m))))
			b.requireGot()
			require.Equal(t, name, b.refusals()[0].Name)
			b.send(c.initial([]byte{1}))
			b.requireGot()
			b.send(short("on"))
			b.requireGot(short("on"))
		})
	}
}

func TestOneAssociationHasOneName(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, nil, usual...)
	first := newQUICClient(t, "12345678").whole("good.example")
	b.send(first, short("first"))
	b.requireGot(first, short("first"))
	for i, name := range []string{"bad.example", "also.example", ""} {
		c := newQUICClient(t, fmt.Sprint("another ", i))
		b.send(c.whole(name), c.initial([]byte{1}), c.whole(name))
		b.requireGot()
		all := b.refusals()
		require.NotEmpty(t, all)
		if name != "" {
			require.Equal(t, name, all[0].Name)
		}
	}
	require.Equal(t, 1, b.associations())
	again := newQUICClient(t, "of the same name").whole("good.example")
	b.send(again, short("on"))
	b.requireGot(again, short("on"))
	b.port++
	other := newQUICClient(t, "of the other name").whole("also.example")
	b.send(other)
	b.requireGot(other)
}

// A server may have got a part of a connection's packets only: it drops those with a packet number that was there, in datagrams that are
// too short, or whose time to live was too small. So the rest must not come under another name.
func TestAHelloIsNotPutTogetherOfPartsOfTwo(t *testing.T) {
	if inNamespace(t) {
		return
	}
	const id = "12345678"
	evil, good := quicHello("bad.example0", 0, 0), quicHello("good.example", 0, 0)
	require.Len(t, good, len(evil))
	from := bytes.Index(evil, []byte("bad.example0"))
	to := from + len("bad.example0")
	// The bytes of the wrong name, in a hello with a right one elsewhere.
	framed := quicHello("good.example", 200, 0)
	copy(framed[from:], "bad.example0")
	rest := func(c *quicClient, m []byte) [][]byte {
		return [][]byte{c.initial(cryptoFrame(m, 0, from), cryptoFrame(m, to, len(m))), c.initial(cryptoFrame(m, from, to))}
	}
	begin := func(b *quicBench) *quicClient {
		c := newQUICClient(t, id)
		b.send(rest(c, good)...)
		require.Len(t, b.got(), 2)
		return c
	}
	for what, try := range map[string]func(b *quicBench, c *quicClient){
		"at once": func(b *quicBench, c *quicClient) { b.send(c.initial(cryptoFrame(evil, from, to))) },
		"with another hello around it": func(b *quicBench, c *quicClient) {
			b.send(rest(c, framed)...)
		},
		"by another version": func(b *quicBench, c *quicClient) {
			c.version = quic2
			b.send(c.initial(cryptoFrame(evil, from, to)))
		},
		"behind another connection": func(b *quicBench, c *quicClient) {
			b.send(newQUICClient(t, "another one").whole("good.example"))
			require.Len(t, b.got(), 1)
			b.send(rest(c, framed)...)
		},
		"behind a refused one": func(b *quicBench, c *quicClient) {
			b.send(newQUICClient(t, "another one").whole("bad.example"))
			b.send(rest(c, framed)...)
		},
		"behind a Handshake packet": func(b *quicBench, c *quicClient) {
			b.send(c.long(2, "finished"))
			require.Len(t, b.got(), 1)
			b.send(rest(c, framed)...)
		},
		"after ten seconds": func(b *quicBench, c *quicClient) {
			b.Run(11 * time.Second)
			b.send(rest(c, framed)...)
		},
		"from another port": func(b *quicBench, c *quicClient) {
			b.port++
			b.send(rest(c, framed)...)
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newQUIC(t, nil, usual...)
			c := begin(b)
			try(b, c)
			b.requireGot()
			require.NotEmpty(t, b.refusals())
		})
	}
	t.Run("that leave with another connection", func(t *testing.T) {
		b := newQUIC(t, nil, usual...)
		b.send(newQUICClient(t, id).initial(cryptoFrame(evil, 0, from), cryptoFrame(evil, to, len(evil))))
		whole := newQUICClient(t, "another one").whole("good.example")
		b.send(whole)
		b.requireGot(whole)
		require.EqualValues(t, 1, b.counters().HellosDropped)
	})
	t.Run("that leave with another connection in one datagram", func(t *testing.T) {
		b := newQUIC(t, nil, usual...)
		first, second := newQUICClient(t, "first"), newQUICClient(t, id)
		b.send(first.initial(cryptoFrame(good, 0, 40)))
		first.to = id
		b.send(slices.Concat(first.initial(cryptoFrame(good, 40, len(good))), second.initial(cryptoFrame(evil, 0, from))))
		b.requireGot()
		require.Zero(t, b.associations())
	})
	t.Run("the same may come again", func(t *testing.T) {
		b := newQUIC(t, nil, usual...)
		c := begin(b)
		again := [][]byte{c.initial(cryptoFrame(good, 10, to)), c.initial(cryptoFrame(good, 0, len(good)))}
		b.send(again...)
		b.requireGot(again...)
	})
	t.Run("after a minute and a half", func(t *testing.T) {
		b := newQUIC(t, nil, usual...)
		begin(b)
		b.Run(91 * time.Second)
		b.port++
		b.send(rest(newQUICClient(t, id), good)...)
		require.Len(t, b.got(), 2)
	})
}

func TestANewPolicyJudgesQUICAssociations(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, nil, usual...)
	m := quicHello("good.example", 0, 0)
	for i, name := range []string{"good.example", "also.example"} {
		b.port = uint16(5000 + i)
		b.send(newQUICClient(t, name).whole(name))
	}
	b.port = 5002
	waiting := newQUICClient(t, "waiting one")
	b.send(waiting.initial(cryptoFrame(m, 0, 20)))
	require.Len(t, b.got(), 2)
	require.Equal(t, 3, b.associations())
	b.bench.port.SetPolicy(newPolicy(t, quicRules(t, "+also.example:443;quic=verify")))
	b.Turn()
	b.Settle()
	require.Equal(t, 1, b.associations())
	require.Equal(t, 1, b.held())
	require.EqualValues(t, 2, b.counters().Withdrawn)
	b.send(waiting.initial(cryptoFrame(m, 20, len(m))))
	b.port = 5000
	b.send(short("no more"))
	b.requireGot()
	b.port = 5001
	b.send(short("on"))
	b.requireGot(short("on"))
	later := newQUICClient(t, "later one").whole("also.example")
	b.send(later)
	b.requireGot(later)
}

func TestSegmentsOfOneFrameAreJudgedOneByOne(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, nil, usual...)
	c, m := newQUICClient(t, "12345678"), quicHello("good.example", 0, 1500)
	const size = 1200
	fill := func(d []byte) []byte { return append(d, make([]byte, size-len(d))...) }
	first, second := fill(c.initial(cryptoFrame(m, 0, 900))), fill(c.initial(cryptoFrame(m, 900, len(m))))
	third, last := fill(short("third")), short("last")
	cut := func(all ...[]byte) {
		b.SendDatagram(porttest.Datagram{Src: b.from(), Dst: at(quicServer), Payload: slices.Concat(all...), GSOSize: size})
		b.Settle()
	}
	cut(first, second, third, last)
	b.requireGot(first, second, third, last)
	bad := fill(newQUICClient(t, "another one").whole("bad.example"))
	cut(third, bad, third, bad, last)
	got := b.got()
	require.Len(t, got, 3)
	require.Equal(t, [][]byte{third, third, last}, got)
	require.Len(t, b.refusals(), 2)
}

func TestWithRulesThatDenyOnlyQUICPassesUnlessItsNameIsDenied(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, func(c *nat.Config) { c.Restrict = false }, "-bad.example:443;quic=verify")
	// The server's address was told for that name, too, so nothing goes there that tells no name.
	b.send(short("anything"))
	b.requireGot()
	b.bench.port.SetPolicy(newPolicy(t, func(c *nat.Config) {
		quicRules(t, "-worse.example:443;quic=verify")(c)
		c.Restrict = false
	}))
	b.port++
	nameless, wrong := newQUICClient(t, "nameless").whole(""), newQUICClient(t, "the wrong one").whole("worse.example")
	b.send(short("anything"), nameless)
	b.requireGot(short("anything"), nameless)
	b.send(wrong)
	b.requireGot()
	b.port++
	b.send(wrong)
	b.requireGot()
	good := newQUICClient(t, "the right one").whole("good.example")
	b.send(good)
	b.requireGot(good)
}

func TestAHeldAssociationHasASocketOfItsOwn(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newQUIC(t, func(c *nat.Config) { c.EndpointIndependent, c.UDPFiltering = true, nat.EndpointIndependent }, usual...)
	m := quicHello("good.example", 0, 0)
	b.send(newQUICClient(t, "12345678").initial(cryptoFrame(m, 0, 20)))
	require.Zero(t, nat.Mappings(b.bench.port))
	require.Equal(t, 1, b.associations())
}

// The frames of an association come on any pair, each on another one than that before at worst.
func TestHellosOfQUICOverSeveralQueuePairs(t *testing.T) {
	if inNamespace(t) {
		return
	}
	host, config, log := quicWorld(t, nil, usual...)
	pairs, h := newQueues(t, 4, config)
	h.hops = 1
	b := &quicBench{bench: pairs, host: host, log: log, port: 5000}
	b.lookUpAll()
	arrived := make(chan string, 4096)
	go func() {
		buffer := make([]byte, 2000)
		for {
			n, err := host.Read(buffer)
			if err != nil {
				return
			}
			arrived <- string(buffer[:n])
		}
	}()
	next := func() string {
		select {
		case d := <-arrived:
			return d
		case <-time.After(time.Minute):
			t.Fatal("a datagram does not arrive")
			return ""
		}
	}
	send := func(d []byte) {
		b.SendDatagram(porttest.Datagram{Src: b.from(), Dst: at(quicServer), Payload: d})
		b.Settle()
	}
	m := quicHello("good.example", 0, 1500)
	for i := range 50 {
		b.port++
		bad := newQUICClient(t, fmt.Sprintf("bad %05d", i)).whole("bad.example")
		send(bad)
		b.port++
		c := newQUICClient(t, fmt.Sprintf("good%05d", i))
		for at := 0; at < len(m); at += 600 {
			d := c.initial(cryptoFrame(m, at, min(at+600, len(m))))
			send(d)
			if at+600 < len(m) {
				require.Empty(t, arrived)
			}
		}
		for at := 0; at < len(m); at += 600 {
			require.NotContains(t, next(), "bad.example")
		}
		send(short("on"))
		require.Equal(t, string(short("on")), next())
	}
	require.NotZero(t, h.moved())
	b.Until("all of the wrong names are refused", func() bool {
		refused := uint64(0)
		for _, c := range h.counters() {
			refused += c.ProofsRefused
		}
		return refused == 50
	})
	require.Empty(t, arrived)
}

func TestAnAssociationWhoseNameIsKnownAllocatesNothing(t *testing.T) {
	if inNamespace(t) {
		return
	}
	host, config, log := quicWorld(t, nil, usual...)
	cfg := nat.DefaultConfig()
	cfg.ResolvConf = ""
	config(&cfg)
	engine, err := nat.New(cfg)
	require.NoError(t, err)
	m := &meter{Port: engine}
	b := &quicBench{bench: &bench{Guest: porttest.New(t, m, porttest.Options{}), t: t, port: engine}, host: host, log: log, port: 5000}
	b.Resolve()
	b.lookUpAll()
	c := newQUICClient(t, "12345678")
	b.send(c.whole("good.example"), c.long(2, "finished"))
	require.Len(t, b.got(), 2)
	payload := append([]byte{0x40}, make([]byte, 1199)...)
	least := uint64(1 << 62)
	for range 5 {
		for range 20 {
			b.SendDatagram(porttest.Datagram{Src: b.from(), Dst: at(quicServer), Payload: payload})
		}
		m.allocs = 0
		b.Turn()
		least = min(least, m.allocs)
		require.Len(t, b.got(), 20)
	}
	require.Zero(t, least)
}
