package nat_test

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/audit"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/dnszone"
)

// What does not fit a datagram is had by TCP, by who asks by TCP.
func TestD3AnAnswerThatDoesNotFitIsHadByTCP(t *testing.T) {
	more := noise(60000)
	good := newResolver(t, "127.0.0.1", silence)
	good.answersLong(more)
	whole := append(answerTo(question(9, "a"), noError), more...)
	t.Run("from the resolver that was asked by UDP", func(t *testing.T) {
		b := newAsking(t, setup{}, good.addr)
		require.Equal(t, whole, b.lookUp("a"))
		b.ask(1024, question(9, "a"))
		require.Equal(t, cutShort(question(9, "a"))[0], b.resolved("a guest that asks by UDP is told so"))
		require.Zero(t, b.Sockets())
		require.Zero(t, b.port.Counters().ResolversLeft)
	})
	for name, spoil := range map[string]func(t *testing.T, r *testResolver){
		"refused": func(t *testing.T, r *testResolver) { require.NoError(t, r.listen.Close()) },
		"ended":   func(_ *testing.T, r *testResolver) { r.whole = func([]byte) [][]byte { runtime.Goexit(); return nil } },
		"cannot":  func(_ *testing.T, r *testResolver) { r.whole = always(servFail) },
	} {
		t.Run("from the next one if it is "+name, func(t *testing.T) {
			first := newResolver(t, "127.0.0.1", silence)
			first.answersLong(nil)
			spoil(t, first)
			b := newAsking(t, setup{}, first.addr, good.addr)
			require.Equal(t, whole, b.lookUp("a"))
			require.Equal(t, 1, first.queries())
			alone := newAsking(t, setup{}, first.addr)
			require.EqualValues(t, servFail, alone.lookUp("a")[3]&0xf, "if there is one")
		})
	}
	t.Run("from the next one if it is silent", func(t *testing.T) {
		first := newResolver(t, "127.0.0.1", silence)
		first.answersLong(nil)
		asked := make(chan bool, 9)
		first.whole = func([]byte) [][]byte { asked <- true; return nil }
		b := newAsking(t, setup{}, first.addr, good.addr)
		before := good.queries()
		c := b.Connect(nameServer)
		c.Send(framed(question(9, "a")))
		b.Until("it is asked by TCP", func() bool { return len(asked) > 0 })
		b.Run(1400 * time.Millisecond)
		require.Equal(t, before, good.queries(), "it has its time")
		b.Run(200 * time.Millisecond)
		require.Equal(t, whole, b.answerBy(c))
	})
}

// namesByTCP asks for the addresses of a name by TCP.
func (b *bench) namesByTCP(name string, kind uint16) *mdns.Msg {
	b.t.Helper()
	query, err := new(mdns.Msg).SetQuestion(name, kind).Pack()
	require.NoError(b.t, err)
	c := b.Connect(nameServer)
	defer c.Close()
	c.Send(framed(query))
	m := new(mdns.Msg)
	require.NoError(b.t, m.Unpack(b.answerBy(c)))
	return m
}

func TestD11QuestionsByTCPGoTheWayOfThoseByUDP(t *testing.T) {
	t.Run("rules by name, and the audit log", func(t *testing.T) {
		r := newResolver(t, "127.0.0.1", func(query []byte) [][]byte { return [][]byte{withAddress(query, 198, 51, 100, 7)} })
		log, audited := audited(t)
		rules := byName(t, "svc.example:9;verify=dns")
		b := newAsking(t, setup{config: func(c *nat.Config) { audited(c); rules(c) }}, r.addr)
		require.Equal(t, mdns.RcodeRefused, b.namesByTCP("evil.example.", mdns.TypeA).Rcode)
		require.Zero(t, r.queries())
		target, err := nat.ParseTarget("tcp:198.51.100.7:9")
		require.NoError(t, err)
		require.False(t, b.port.Explain(target).Allowed)
		require.Len(t, b.namesByTCP("svc.example.", mdns.TypeA).Answer, 1)
		require.True(t, b.port.Explain(target).Allowed, "the answer opens what the rule says")
		require.Empty(t, b.namesByTCP("svc.example.", mdns.TypeHTTPS).Answer)
		require.Equal(t, 1, r.queries(), "no hint leads around it")
		var names []string
		for _, e := range recorded(log) {
			require.Equal(t, audit.Query, e.Kind)
			require.EqualValues(t, 6, e.Proto)
			names = append(names, e.Name+" "+e.Verdict)
		}
		require.Equal(t, []string{"evil.example unlisted", "svc.example allowed", "svc.example unlisted"}, names)
	})
	t.Run("names of the configuration", func(t *testing.T) {
		b := newAsking(t, setup{config: func(c *nat.Config) {
			c.Names = []dnszone.Entry{{Zone: "internal", Name: "a", Addr: netip.MustParseAddr("192.0.2.1")}}
		}}, porttest.FreePort(t))
		require.Contains(t, b.namesByTCP("a.internal.", mdns.TypeA).Answer[0].String(), "192.0.2.1")
		require.EqualValues(t, 1, b.port.Counters().QueriesNamed)
	})
	t.Run("the cache, which has them whole", func(t *testing.T) {
		r := newResolver(t, "127.0.0.1", cutShort)
		long := func(query []byte) []byte {
			answer := answerTo(query, noError)
			answer[7] = 40
			for range 40 {
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1)
			}
			return answer
		}
		r.whole = func(query []byte) [][]byte { return [][]byte{long(query)} }
		b := newAsking(t, setup{config: func(c *nat.Config) { c.DNSCache = true }}, r.addr)
		require.Equal(t, long(question(9, "a")), b.lookUp("a"))
		require.Len(t, b.lookUp("a"), len(long(question(9, "a"))))
		require.Equal(t, 1, r.queries())
		b.ask(1024, question(9, "a"))
		got := b.resolved("the same by UDP")
		require.LessOrEqual(t, len(got), 512)
		require.NotZero(t, got[2]&2, "it does not fit")
		require.EqualValues(t, 2, b.port.Counters().QueriesCached)
	})
	t.Run("domains with resolvers of their own", func(t *testing.T) {
		usual, own := newResolver(t, "127.0.0.1", always(noError)), newResolver(t, "127.0.0.1", silence)
		own.answersLong(noise(3000))
		b := newAsking(t, setup{config: func(c *nat.Config) { c.Split = []dns.Route{{Domain: "corp", Servers: dns.Plain(own.addr)}} }}, usual.addr)
		require.Len(t, b.lookUp("corp"), len(question(9, "corp"))+3000)
		require.EqualValues(t, noError, b.lookUp("example")[3]&0xf)
		require.Equal(t, []int{1, 1}, []int{usual.queries(), own.queries()})
	})
	t.Run("resolvers by TLS", func(t *testing.T) {
		more := noise(3000)
		r, roots := newSecretResolver(t, func(query []byte) []byte { return append(answerTo(query, noError), more...) })
		b := newAsking(t, setup{config: func(c *nat.Config) { c.Resolvers, c.DNSRoots = []dns.Server{r}, roots }})
		require.Equal(t, append(answerTo(question(9, "a"), noError), more...), b.lookUp("a"))
	})
}

// slowly answers names that begin with s only when released.
func slowly(release <-chan struct{}) func([]byte) [][]byte {
	return func(query []byte) [][]byte {
		if query[13] == 's' {
			<-release
		}
		return always(noError)(query)
	}
}

func TestD12QuestionsOfOneConnectionMayBeUnderWayTogether(t *testing.T) {
	release := make(chan struct{})
	slow := newResolver(t, "127.0.0.1", slowly(release))
	quick := newResolver(t, "127.0.0.1", always(noError))
	b := newAsking(t, setup{config: func(c *nat.Config) { c.Split = []dns.Route{{Domain: "s", Servers: dns.Plain(slow.addr)}} }}, quick.addr)
	c := b.Connect(nameServer)
	c.Send(slices.Concat(framed(question(1, "s")), framed(question(2, "a")), framed(question(3, "b"))))
	for i, got := range b.answersBy(c, 2) {
		require.Equal(t, []byte{0, byte(i + 2)}, got[:2], "what is slow holds up nobody")
	}
	c.Close() // a guest may end its side when it has asked
	b.Settle()
	require.False(t, c.Ended(), "an answer is to come")
	close(release)
	require.Equal(t, answerTo(question(1, "s"), noError), b.answerBy(c))
	b.Until("the end follows the last answer", func() bool { return c.FinReceived })
	b.Until("its place is free", func() bool { return b.streams() == 0 })
}

// Where the guest is when the answer comes is of no matter.
func TestD12AnAnswerFindsItsConnectionOnAnyQueue(t *testing.T) {
	r := newResolver(t, "127.0.0.1", silence)
	b, h := newQueues(t, 3, func(c *nat.Config) { c.Resolvers, c.ResolvConf = dns.Plain(r.addr), "" })
	c := b.Connect(nameServer)
	for i := range 30 {
		release := make(chan struct{})
		r.answers(slowly(release))
		before := h.moved()
		c.Send(framed(question(uint16(i), "slow")))
		b.Until("the connection is elsewhere", func() bool { c.SendKeepalive(); return h.moved() > before+1 })
		close(release)
		require.Equal(t, answerTo(question(uint16(i), "slow"), noError), b.answerBy(c))
	}
}

func TestD12WhatAConnectionAsksForIsBounded(t *testing.T) {
	t.Run("questions under way", func(t *testing.T) {
		r := newResolver(t, "127.0.0.1", silence)
		b := newAsking(t, setup{}, r.addr)
		c := b.Connect(nameServer)
		for i := range 40 {
			c.Send(framed(question(uint16(i), "slow")))
		}
		b.count(r, 16)
		b.Settle()
		require.Equal(t, 16, r.queries())
		r.answers(always(noError))
		b.Run(11 * time.Second)
		all := b.answersBy(c, 40)
		failed := slices.DeleteFunc(slices.Clone(all), func(m []byte) bool { return m[3]&0xf != servFail })
		require.Len(t, failed, 16, "who asks by TCP is told that nobody has answered")
		require.EqualValues(t, 40, b.port.Counters().Queries)
	})
	t.Run("bytes that nobody reads", func(t *testing.T) {
		r := newResolver(t, "127.0.0.1", silence)
		r.answersLong(noise(60000))
		b := newAsking(t, setup{guest: porttest.Options{RingSize: 16}}, r.addr)
		c := b.Connect(nameServer)
		b.Withhold = true
		const all = 60
		for i := range all {
			c.Send(framed(question(uint16(i), "a")))
		}
		b.Until("some are asked", func() bool { return r.queries() >= 16 })
		b.Settle()
		require.LessOrEqual(t, r.queries(), 20, "nobody is asked for much more than the guest takes")
		b.Withhold = false
		b.Post(16)
		b.answersBy(c, all)
	})
	t.Run("bytes that are no question yet", func(t *testing.T) {
		r := newResolver(t, "127.0.0.1", silence)
		b := newAsking(t, setup{}, r.addr)
		c := b.Connect(nameServer)
		for i := range 3000 {
			c.Send(framed(question(uint16(i), "slow")))
		}
		b.Settle()
		require.Greater(t, c.Unsent(), 30000, "the window closes")
		r.answers(always(noError))
		b.Until("all have gone", func() bool { b.Run(time.Second); c.Read(); return c.Unsent() == 0 })
	})
	t.Run("queries of the guest", func(t *testing.T) {
		r := newResolver(t, "127.0.0.1", silence)
		b := newAsking(t, setup{}, r.addr)
		for i := range 60 {
			b.ask(1024, question(uint16(i), "slow"))
		}
		b.count(r, 60)
		require.EqualValues(t, servFail, b.lookUp("a")[3]&0xf)
		require.EqualValues(t, 1, b.port.Counters().QueriesTooMany)
	})
}

func TestD12AConnectionThatDoesNotAskEnds(t *testing.T) {
	for name, lie := range map[string][]byte{
		"no length": {0, 0}, "no header": append([]byte{0, 11}, make([]byte, 11)...), "too long": {0x10, 0x01}, "the longest": {0xff, 0xff},
	} {
		t.Run(name, func(t *testing.T) {
			r := newResolver(t, "127.0.0.1", always(noError))
			b := newAsking(t, setup{}, r.addr)
			c := b.Connect(nameServer)
			c.Send(lie)
			b.Until("it is reset", func() bool { return c.State == porttest.WasReset })
			require.EqualValues(t, 1, b.port.Counters().QueriesRefused)
			require.EqualValues(t, 1, b.endings()["ended_no_query"])
			require.Zero(t, b.streams())
		})
	}
	t.Run("byte by byte", func(t *testing.T) {
		r := newResolver(t, "127.0.0.1", always(noError))
		b := newAsking(t, setup{}, r.addr)
		c := b.Connect(nameServer)
		for _, piece := range framed(question(1, "patience"))[:12] {
			c.Send([]byte{piece})
			b.Run(time.Second)
		}
		require.True(t, c.FinReceived, "though something came each second")
		require.Zero(t, r.queries())
	})
	t.Run("a whole question, byte by byte", func(t *testing.T) {
		r := newResolver(t, "127.0.0.1", always(noError))
		b := newAsking(t, setup{}, r.addr)
		c := b.Connect(nameServer)
		for _, piece := range framed(question(1, "a")) {
			c.Send([]byte{piece})
			b.Settle()
		}
		require.Equal(t, answerTo(question(1, "a"), noError), b.answerBy(c))
	})
	t.Run("a guest that does not read", func(t *testing.T) {
		r := newResolver(t, "127.0.0.1", silence)
		r.answersLong(noise(60000))
		b := newAsking(t, setup{guest: porttest.Options{RingSize: 16}}, r.addr)
		c := b.Connect(nameServer)
		b.Withhold = true
		c.Send(framed(question(1, "a")))
		b.count(r, 1)
		b.Run(45 * time.Second)
		require.Zero(t, b.streams())
	})
	t.Run("one that is gone", func(t *testing.T) {
		release := make(chan struct{})
		r := newResolver(t, "127.0.0.1", slowly(release))
		b := newAsking(t, setup{}, r.addr)
		c := b.Connect(nameServer)
		c.Send(framed(question(1, "slow")))
		b.count(r, 1)
		c.Reset()
		b.Until("its place is free", func() bool { return b.streams() == 0 })
		close(release)
		b.Until("its question is over", func() bool { return b.Sockets() == 0 })
	})
	t.Run("two questions in a message", func(t *testing.T) {
		r := newResolver(t, "127.0.0.1", always(noError))
		b := newAsking(t, setup{}, r.addr)
		c := b.Connect(nameServer)
		two := question(1, "a")
		binary.BigEndian.PutUint16(two[4:], 2)
		c.Send(framed(append(two, two[12:]...)))
		require.EqualValues(t, formErr, b.answerBy(c)[3]&0xf)
		require.Zero(t, r.queries())
	})
}
