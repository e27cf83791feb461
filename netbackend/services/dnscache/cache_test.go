package dnscache

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

const second = int64(time.Second)

// ask is a query, which alter may change.
func ask(t testing.TB, name string, kind uint16, alter func(*dns.Msg)) []byte {
	m := new(dns.Msg).SetQuestion(name, kind)
	m.Id = 7
	if alter != nil {
		alter(m)
	}
	b, err := m.Pack()
	require.NoError(t, err)
	return b
}

// answer is an answer to a query with records of its sections, as a zone has them.
func answer(t testing.TB, query []byte, code int, alter func(*dns.Msg), answers, authority string) []byte {
	q := new(dns.Msg)
	require.NoError(t, q.Unpack(query))
	m := new(dns.Msg).SetRcode(q, code)
	m.Compress = true
	for text, section := range map[string]*[]dns.RR{answers: &m.Answer, authority: &m.Ns} {
		for line := range bytes.Lines([]byte(text)) {
			rr, err := dns.NewRR(string(line))
			require.NoError(t, err)
			*section = append(*section, rr)
		}
	}
	if alter != nil {
		alter(m)
	}
	b, err := m.Pack()
	require.NoError(t, err)
	return b
}

// withID is a message with another ID.
func withID(b []byte, id uint16) []byte {
	b = bytes.Clone(b)
	binary.BigEndian.PutUint16(b, id)
	return b
}

// ttls are those of all records of an answer but EDNS'.
func ttls(t *testing.T, b []byte) (all []uint32) {
	m := new(dns.Msg)
	require.NoError(t, m.Unpack(b))
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if rr.Header().Rrtype != dns.TypeOPT {
				all = append(all, rr.Header().Ttl)
			}
		}
	}
	return all
}

const (
	chain = "www.example.org. 300 IN CNAME web.example.org.\nweb.example.org. 60 IN A 192.0.2.1"
	soa   = "example.org. 900 IN SOA ns.example.org. root.example.org. 1 2 3 4 30"
)

func TestAnAnswerIsGivenAgainWithWhatIsLeftOfItsTimes(t *testing.T) {
	var c Cache
	query := ask(t, "www.example.org.", dns.TypeA, nil)
	first := answer(t, query, dns.RcodeSuccess, nil, chain, "")
	c.Put(5*second, 0, query, first)
	got := c.Get(5*second, 0, withID(query, 99))
	require.Equal(t, withID(first, 99), got, "nothing but the ID is another one")
	require.Equal(t, []uint32{299, 59}, ttls(t, c.Get(5*second+1, 0, query)), "a second that has begun counts")
	require.Equal(t, []uint32{241, 1}, ttls(t, c.Get(64*second, 0, query)))
	require.Nil(t, c.Get(65*second, 0, query), "the record that lives shortest is over")
	require.Nil(t, c.Get((60+maxStale+5)*second, 0, query), "and is not kept for ever")
	require.Empty(t, c.entries)
	require.Zero(t, c.size)
	got[12]++
	require.Equal(t, first, answer(t, query, dns.RcodeSuccess, nil, chain, ""))
}

func TestNegativeAnswersLiveAsLongAsTheirZoneSays(t *testing.T) {
	for name, code := range map[string]int{"no such name": dns.RcodeNameError, "no such data": dns.RcodeSuccess} {
		t.Run(name, func(t *testing.T) {
			var c Cache
			query := ask(t, "no.example.org.", dns.TypeA, nil)
			c.Put(0, 0, query, answer(t, query, code, nil, "", soa))
			require.Equal(t, []uint32{871}, ttls(t, c.Get(29*second, 0, query)))
			require.Nil(t, c.Get(30*second, 0, query), "the zone's least time, and not that of the record")
			c.Put(0, 0, query, answer(t, query, code, nil, "", ""))
			require.Nil(t, c.Get(0, 0, query), "without it, nobody knows for how long")
			c.Put(0, 0, query, answer(t, query, code, nil, "", "example.org. 900 IN NS ns.example.org."))
			require.Nil(t, c.Get(0, 0, query))
		})
	}
}

// Whatever differs but the ID makes another query.
func TestOnlyTheSameQueryGetsAnAnswer(t *testing.T) {
	edns := func(size uint16, do bool) func(*dns.Msg) { return func(m *dns.Msg) { m.SetEdns0(size, do) } }
	queries := [][]byte{
		ask(t, "www.example.org.", dns.TypeA, nil), ask(t, "www.Example.org.", dns.TypeA, nil), ask(t, "www.example.org.", dns.TypeAAAA, nil),
		ask(t, "www.example.org.", dns.TypeA, func(m *dns.Msg) { m.RecursionDesired = false }),
		ask(t, "www.example.org.", dns.TypeA, func(m *dns.Msg) { m.CheckingDisabled = true }),
		ask(t, "www.example.org.", dns.TypeA, func(m *dns.Msg) { m.AuthenticatedData = true }),
		ask(t, "www.example.org.", dns.TypeA, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }),
		ask(t, "www.example.org.", dns.TypeA, edns(1232, false)), ask(t, "www.example.org.", dns.TypeA, edns(1232, true)), ask(t, "www.example.org.", dns.TypeA, edns(4096, true)),
	}
	var c Cache
	for i, query := range queries {
		require.Nil(t, c.Get(0, 0, query), i)
		alter := func(m *dns.Msg) {
			if i >= 7 {
				m.SetEdns0(uint16(2000+i), i > 7)
			}
		}
		c.Put(0, 0, query, answer(t, query, dns.RcodeSuccess, alter, fmt.Sprintf("www.example.org. 60 IN TXT \"%d\"", i), ""))
	}
	for i, query := range queries {
		require.Contains(t, string(c.Get(0, 0, query)), fmt.Sprintf("\x01%d", i), i)
	}
}

func TestWhatMayNotBeTheSameAgainIsNotKept(t *testing.T) {
	plain := ask(t, "www.example.org.", dns.TypeA, nil)
	good := "www.example.org. 60 IN A 192.0.2.1"
	cookie := ask(t, "www.example.org.", dns.TypeA, func(m *dns.Msg) {
		m.SetEdns0(1232, false).IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}}
	})
	whole := answer(t, plain, dns.RcodeSuccess, nil, good, "")
	for name, c := range map[string]struct{ query, answer []byte }{
		"an error":              {plain, answer(t, plain, dns.RcodeServerFailure, nil, "", soa)},
		"a refusal":             {plain, answer(t, plain, dns.RcodeRefused, nil, good, "")},
		"one that is cut short": {plain, answer(t, plain, dns.RcodeSuccess, func(m *dns.Msg) { m.Truncated = true }, good, "")},
		"no time to live":       {plain, answer(t, plain, dns.RcodeSuccess, nil, "www.example.org. 0 IN A 192.0.2.1", "")},
		"no time for one":       {plain, answer(t, plain, dns.RcodeSuccess, nil, good+"\nwww.example.org. 0 IN A 192.0.2.2", "")},
		"a time below zero":     {plain, answer(t, plain, dns.RcodeSuccess, nil, "www.example.org. 2147483648 IN A 192.0.2.1", "")},
		"another question":      {plain, answer(t, ask(t, "www.example.com.", dns.TypeA, nil), dns.RcodeSuccess, nil, good, "")},
		"another case":          {plain, answer(t, ask(t, "WWW.example.org.", dns.TypeA, nil), dns.RcodeSuccess, nil, good, "")},
		"another opcode":        {plain, answer(t, plain, dns.RcodeSuccess, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }, good, "")},
		"a query for an answer": {plain, func() []byte { b := bytes.Clone(whole); b[2] &^= 0x80; return b }()},
		"a cookie":              {cookie, answer(t, cookie, dns.RcodeSuccess, nil, good, "")},
		"an option of EDNS": {plain, answer(t, plain, dns.RcodeSuccess, func(m *dns.Msg) {
			m.SetEdns0(1232, false).IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: 3}}
		}, good, "")},
		"a longer code":    {plain, answer(t, plain, dns.RcodeSuccess, func(m *dns.Msg) { m.SetEdns0(1232, false); m.Rcode = dns.RcodeBadVers }, good, "")},
		"a byte too much":  {plain, append(bytes.Clone(whole), 0)},
		"a byte too few":   {plain, whole[:len(whole)-1]},
		"a record too few": {plain, func() []byte { b := bytes.Clone(whole); b[7]++; return b }()},
		"two questions":    {plain, func() []byte { b := bytes.Clone(whole); b[5]++; return b }()},
		"nothing":          {plain, nil},
		"a long one": {plain, answer(t, plain, dns.RcodeSuccess, func(m *dns.Msg) {
			for range 400 {
				m.Answer = append(m.Answer, m.Answer[0])
			}
		}, good, "")},
	} {
		var cache Cache
		cache.Put(0, 0, c.query, c.answer)
		require.Nil(t, cache.Get(0, 0, c.query), name)
		require.Empty(t, cache.entries, name)
	}
	var cache Cache
	cache.Put(0, 0, plain, whole)
	require.Equal(t, whole, cache.Get(0, 0, plain), "the test can fail")
}

func TestACacheIsBounded(t *testing.T) {
	var c Cache
	query := func(i int) []byte { return ask(t, fmt.Sprintf("n%d.example.org.", i), dns.TypeTXT, nil) }
	text := "n. 60 IN TXT \"" + string(bytes.Repeat([]byte("x"), 200)) + "\""
	for i := range 2 * MaxCached {
		c.Put(0, 0, query(i), answer(t, query(i), dns.RcodeSuccess, nil, text, ""))
		require.NotNil(t, c.Get(0, 0, query(0)), "one that is used stays")
	}
	require.Len(t, c.entries, MaxCached)
	require.Equal(t, MaxCached, c.recent.Len())
	require.NotNil(t, c.Get(0, 0, query(2*MaxCached-1)))
	require.Nil(t, c.Get(0, 0, query(1)))
	long := func(i int) []byte {
		return answer(t, query(i), dns.RcodeSuccess, func(m *dns.Msg) {
			for range 15 {
				m.Answer = append(m.Answer, m.Answer[0])
			}
		}, text, "")
	}
	for i := range 500 {
		c.Put(0, 0, query(i), long(i))
	}
	require.LessOrEqual(t, c.size, maxCacheSize)
	require.Greater(t, c.size, maxCacheSize/2)
	require.Equal(t, len(c.entries), c.Clear())
	require.Zero(t, c.size)
	require.Nil(t, c.Get(0, 0, query(1)))
}

func TestAnswersOfOtherResolversAreForgotten(t *testing.T) {
	var c Cache
	query := ask(t, "www.example.org.", dns.TypeA, nil)
	reply := answer(t, query, dns.RcodeSuccess, nil, chain, "")
	require.Nil(t, c.Get(0, 1, query))
	c.Put(0, 1, query, reply)
	require.NotNil(t, c.Get(0, 1, query))
	require.Nil(t, c.Get(0, 2, query))
	c.Put(0, 1, query, reply)
	require.Nil(t, c.Get(0, 2, query), "it was asked before they changed")
}

func TestACacheIsListed(t *testing.T) {
	var c Cache
	yes, no := ask(t, "www.example.org.", dns.TypeA, nil), ask(t, "No.example.org.", dns.TypeAAAA, nil)
	c.Put(0, 0, yes, answer(t, yes, dns.RcodeSuccess, nil, chain, ""))
	c.Put(0, 0, no, answer(t, no, dns.RcodeNameError, nil, "", soa))
	require.Equal(t, []Name{{"No.example.org.", "AAAA", "NXDOMAIN", 20 * time.Second}, {"www.example.org.", "A", "NOERROR", 50 * time.Second}}, c.List(10*second))
	require.Len(t, c.List(30*second), 1)
	require.Empty(t, c.List(100*second))
}

// FuzzCache keeps what resolvers may send. What is given back is the same but for the ID and times, which have become no longer.
func FuzzCache(f *testing.F) {
	for _, q := range [][]byte{ask(f, "www.example.org.", dns.TypeA, nil), ask(f, "no.example.org.", dns.TypeA, func(m *dns.Msg) { m.SetEdns0(1232, true) })} {
		f.Add(q, answer(f, q, dns.RcodeSuccess, nil, chain, soa))
		f.Add(q, answer(f, q, dns.RcodeNameError, nil, "", soa))
	}
	f.Fuzz(func(t *testing.T, query, reply []byte) {
		var c Cache
		c.Put(0, 0, query, reply)
		_ = c.List(0)
		now := c.Get(0, 0, query)
		if now == nil {
			return
		}
		require.Equal(t, reply[2:], now[2:])
		later := c.Get(3*second, 0, query)
		if later == nil {
			return
		}
		require.Len(t, later, len(reply))
		is := c.recent.Front().Value.(*cached)
		for _, at := range is.ttls {
			require.Equal(t, binary.BigEndian.Uint32(reply[at:])-3, binary.BigEndian.Uint32(later[at:]))
			copy(later[at:at+4], reply[at:])
		}
		require.Equal(t, reply[2:], later[2:], "nothing else has changed")
	})
}

func TestAnAnswerThatIsOverStandsInForHalfAMinuteAtATime(t *testing.T) {
	var c Cache
	query := ask(t, "www.example.org.", dns.TypeA, nil)
	require.False(t, c.HasStale(0, query))
	c.Put(0, 0, query, answer(t, query, dns.RcodeSuccess, nil, chain, ""))
	require.False(t, c.HasStale(59*second, query), "it is good")
	require.Nil(t, c.GetStale(59*second, 0, query))
	require.Nil(t, c.Get(60*second, 0, query), "resolvers are asked first")
	require.True(t, c.HasStale(60*second, query))
	got := c.GetStale(60*second, 0, withID(query, 99))
	require.Equal(t, []uint32{30, 30}, ttls(t, got))
	require.Equal(t, byte(99), got[1])
	require.Equal(t, []uint32{30, 30}, ttls(t, c.Get(89*second, 0, query)), "resolvers are left alone for a while")
	require.Nil(t, c.Get(90*second, 0, query))
	require.Equal(t, Stats{Entries: 1, Bytes: c.size, Misses: 2, Expired: 2, Stale: 2}, c.Stats())

	c.Put(91*second, 0, query, answer(t, query, dns.RcodeSuccess, nil, chain, ""))
	require.Equal(t, []uint32{300, 60}, ttls(t, c.Get(91*second, 0, query)), "a better one takes its place")
	require.EqualValues(t, 1, c.Stats().Hits)
	require.NotNil(t, c.GetStale((91+60+maxStale-1)*second, 0, query))
	require.Nil(t, c.GetStale((91+60+maxStale)*second, 0, query), "a day later it says nothing any more")
	require.Nil(t, c.GetStale(200*second, 1, query), "nor for other resolvers")
	for _, short := range [][]byte{nil, {1}, make([]byte, 11)} {
		require.False(t, c.HasStale(0, short))
		require.Nil(t, c.GetStale(0, 1, short))
	}
}

func TestThatANameWasNotThereDoesNotStandIn(t *testing.T) {
	var c Cache
	query := ask(t, "no.example.org.", dns.TypeA, nil)
	for _, code := range []int{dns.RcodeNameError, dns.RcodeSuccess} {
		c.Put(0, 0, query, answer(t, query, code, nil, "", soa))
		require.NotNil(t, c.Get(29*second, 0, query))
		require.False(t, c.HasStale(31*second, query))
		require.Nil(t, c.GetStale(31*second, 0, query))
		require.Nil(t, c.Get(31*second, 0, query))
		require.Zero(t, c.Stats().Entries)
	}
}
