package dns_test

import (
	"encoding/binary"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/dns"
)

// pack returns a query of a type that change has changed.
func pack(t testing.TB, kind uint16, change func(*mdns.Msg)) []byte {
	m := new(mdns.Msg).SetQuestion("host.example.", kind)
	if change != nil {
		change(m)
	}
	b, err := m.Pack()
	require.NoError(t, err)
	return b
}

// messages are what a guest may send, and the verdict.
func messages(t testing.TB) map[string]struct {
	message []byte
	want    dns.Verdict
} {
	opcode := func(code int) []byte { return pack(t, mdns.TypeSOA, func(m *mdns.Msg) { m.Opcode = code }) }
	a := pack(t, mdns.TypeA, nil)
	pointer := append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 0x12}, 0, 252, 0, 1) // the name's end stands behind it
	return map[string]struct {
		message []byte
		want    dns.Verdict
	}{
		"address":             {a, dns.Ordinary},
		"EDNS":                {pack(t, mdns.TypeHTTPS, func(m *mdns.Msg) { m.SetEdns0(4096, true) }), dns.Ordinary},
		"all records":         {pack(t, mdns.TypeANY, nil), dns.Ordinary},
		"the root":            {pack(t, mdns.TypeNS, func(m *mdns.Msg) { m.Question[0].Name = "." }), dns.Ordinary},
		"a long name":         {pack(t, mdns.TypeA, func(m *mdns.Msg) { m.Question[0].Name = strings.Repeat("abcdefg.", 31) }), dns.Ordinary},
		"for a cookie":        {pack(t, 0, func(m *mdns.Msg) { m.Question = nil; m.SetEdns0(1232, false) }), dns.Ordinary},
		"a header":            {make([]byte, 12), dns.Ordinary},
		"transfer":            {pack(t, mdns.TypeAXFR, nil), dns.Refused},
		"behind a pointer":    {pointer, dns.Refused},
		"incremental":         {pack(t, mdns.TypeIXFR, nil), dns.Refused},
		"inverse query":       {opcode(mdns.OpcodeIQuery), dns.NotImplemented},
		"status":              {opcode(mdns.OpcodeStatus), dns.NotImplemented},
		"notify":              {opcode(mdns.OpcodeNotify), dns.NotImplemented},
		"update":              {opcode(mdns.OpcodeUpdate), dns.NotImplemented},
		"stateful operations": {opcode(mdns.OpcodeStateful), dns.NotImplemented},
		"answer":              {pack(t, mdns.TypeA, func(m *mdns.Msg) { m.Response = true }), dns.Malformed},
		"two questions": {pack(t, mdns.TypeA, func(m *mdns.Msg) {
			m.Question = append(m.Question, mdns.Question{Name: ".", Qtype: mdns.TypeAXFR, Qclass: 1})
		}), dns.Malformed},
		"no header": {a[:11], dns.Malformed},
		"cut name":  {a[:14], dns.Malformed},
		"cut type":  {a[:len(a)-3], dns.Malformed},
		"cut class": {a[:len(a)-1], dns.Malformed},
		"bad label": {append(append([]byte{}, a[:12]...), 0x80, 0, 0, 1, 0, 1), dns.Malformed},
	}
}

func TestOnlyOrdinaryQueriesPass(t *testing.T) {
	for name, c := range messages(t) {
		require.Equal(t, c.want, dns.Inspect(c.message), name)
	}
	long := make([]byte, dns.MaxQuery+1)
	require.Equal(t, dns.Malformed, dns.Inspect(long))
	require.Equal(t, dns.Ordinary, dns.Inspect(long[1:]))
}

func TestWhatDoesNotGoOnIsAnswered(t *testing.T) {
	for name, c := range messages(t) {
		t.Run(name, func(t *testing.T) {
			got := dns.Refuse(c.message, c.want)
			if name == "answer" || name == "no header" {
				require.Nil(t, got, "two servers could keep each other busy")
				return
			}
			var a mdns.Msg
			require.NoError(t, a.Unpack(got))
			require.True(t, a.Response)
			require.Equal(t, binary.BigEndian.Uint16(c.message), a.Id)
			require.Equal(t, map[dns.Verdict]int{
				dns.Ordinary: mdns.RcodeSuccess, dns.Malformed: mdns.RcodeFormatError,
				dns.NotImplemented: mdns.RcodeNotImplemented, dns.Refused: mdns.RcodeRefused,
			}[c.want], a.Rcode)
			require.LessOrEqual(t, len(got), len(c.message), "nothing is made longer")
		})
	}
}

func TestAFailureRepeatsTheQuestion(t *testing.T) {
	query := pack(t, mdns.TypeAAAA, func(m *mdns.Msg) { m.SetEdns0(4096, true) })
	var q, a mdns.Msg
	require.NoError(t, q.Unpack(query))
	require.NoError(t, a.Unpack(dns.Fail(query)))
	require.Equal(t, mdns.RcodeServerFailure, a.Rcode)
	require.Equal(t, q.Question, a.Question)
	require.True(t, a.RecursionDesired)
	require.True(t, a.IsEdns0().Do())
	for _, b := range [][]byte{nil, []byte("short"), dns.Fail(query)} {
		require.Nil(t, dns.Fail(b))
	}
}

func TestAnswersAreForTheGuestOrAReasonToAskTheNext(t *testing.T) {
	query := pack(t, mdns.TypeA, nil)
	reply := func(rcode int, change func(*mdns.Msg)) []byte {
		var q mdns.Msg
		require.NoError(t, q.Unpack(query))
		a := new(mdns.Msg).SetRcode(&q, rcode)
		if change != nil {
			change(a)
		}
		b, err := a.Pack()
		require.NoError(t, err)
		return b
	}
	for rcode, want := range map[int]dns.Reply{
		mdns.RcodeSuccess: dns.Final, mdns.RcodeNameError: dns.Final, mdns.RcodeFormatError: dns.Final,
		mdns.RcodeServerFailure: dns.AskNext, mdns.RcodeRefused: dns.AskNext, mdns.RcodeNotImplemented: dns.AskNext,
	} {
		require.Equal(t, want, dns.Classify(query, reply(rcode, nil)), mdns.RcodeToString[rcode])
	}
	require.Equal(t, dns.Final, dns.Classify(query, reply(0, func(a *mdns.Msg) { a.Truncated = true })), "which the guest asks again for by TCP")
	require.Equal(t, dns.NoReply, dns.Classify(query, reply(0, func(a *mdns.Msg) { a.Id++ })))
	require.Equal(t, dns.NoReply, dns.Classify(query, query))
	require.Equal(t, dns.NoReply, dns.Classify(query, query[:11]))
}

func FuzzInspect(f *testing.F) {
	for _, c := range messages(f) {
		f.Add(c.message)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v := dns.Inspect(b)
		if a := dns.Refuse(b, v); a != nil {
			require.Equal(t, b[:2], a[:2])
			require.NotZero(t, a[2]&0x80, "an answer is marked as one")
		}
		var m mdns.Msg
		if v != dns.Ordinary || m.Unpack(b) != nil {
			return
		}
		require.Equal(t, mdns.OpcodeQuery, m.Opcode)
		for _, q := range m.Question {
			require.NotContains(t, []uint16{mdns.TypeAXFR, mdns.TypeIXFR}, q.Qtype)
		}
	})
}
