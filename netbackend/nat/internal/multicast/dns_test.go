package multicast

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

var name = []byte("\x01a\x05local\x00")

// message is a query for an address and a pointer, which has a record of each kind and claims a name.
func message(flags, claims byte) []byte {
	m := []byte{0, 7, flags, 0, 0, 2, 0, 2, 0, claims, 0, 0}
	m = slices.Concat(m, name, []byte{0, 1, 0x80, 1}, []byte{0xc0, 12, 0, 12, 0, 1})
	m = slices.Concat(m, []byte{0xc0, 12, 0, 28, 0x80, 1, 0, 0, 0, 9, 0, 16, 0xfe, 0x80}, make([]byte, 14))
	m = slices.Concat(m, name, []byte{0, 28, 0x80, 1, 0, 0, 0, 9, 0, 16, 0xfd, 0x80}, make([]byte, 14))
	if claims > 0 {
		m = slices.Concat(m, name, []byte{0, 1, 0x80, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4})
	}
	return m
}

func TestOnlyQuestionsLeave(t *testing.T) {
	left, what := question(message(2, 0))
	require.Equal(t, Sent, what)
	require.Equal(t, slices.Concat([]byte{0, 7, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0}, name, []byte{0, 1, 0, 1}, []byte{0xc0, 12, 0, 12, 0, 1}), left)
	for flags, m := range map[byte][]byte{0: message(0, 1), 0x84: message(0x84, 0), 0x28: message(0x28, 0)} {
		_, what = question(m)
		require.Equal(t, Kept, what, "%x", flags)
	}
}

// Wherever a message is cut off, nothing behind it is read, and a response is not passed on.
func TestMessagesThatAreCutOffAreMalformed(t *testing.T) {
	whole := message(0, 0)
	questions, _ := question(slices.Clone(whole))
	for n := range len(whole) {
		m := slices.Clip(slices.Clone(whole[:n]))
		require.False(t, response(slices.Clone(m)), n)
		_, what := question(m)
		require.Equal(t, n >= len(questions), what == Sent, n)
	}
	require.True(t, response(whole))
}

// A name that cannot be read does not leave: what is behind the questions is cut off, so it may have led there.
func TestNamesThatLeadNowhereAreMalformed(t *testing.T) {
	header := []byte{0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0}
	first := slices.Concat(header, name, []byte{0, 1, 0, 1})
	for what, second := range map[string][]byte{
		"to itself":                    {0xc0, byte(len(first))},
		"forward":                      {0xc0, byte(len(first) + 2)},
		"into the header":              {0xc0, 4},
		"behind the message":           {0xff, 0xff},
		"to a pointer to itself":       {1, 'b', 0xc0, byte(len(first))},
		"of a reserved kind":           append([]byte{64}, make([]byte, 65)...),
		"longer than a name by itself": append(bytes.Repeat([]byte{1, 'b'}, 128), 0),
		"longer than a name can be":    slices.Concat(bytes.Repeat(append([]byte{63}, make([]byte, 63)...), 4), []byte{0xc0, 12}),
	} {
		_, got := question(slices.Concat(first, second, []byte{0, 1, 0, 1}))
		require.Equal(t, Malformed, got, what)
	}
	_, got := question(slices.Concat(first, []byte{1, 'b', 0xc0, 14}, []byte{0, 1, 0, 1}))
	require.Equal(t, Sent, got)
}

func TestAddressesOfAnotherLinkAreHidden(t *testing.T) {
	m := message(0x84, 0)
	require.True(t, response(m))
	want := message(0x84, 0)
	at := 12 + len(name) + 4 + 6 + 2
	copy(want[at:], []byte{0xff, 0})
	require.Equal(t, want, m)
}

func TestGroupsAreKnownByAddressAndPort(t *testing.T) {
	for g := range groups {
		for _, is6 := range []bool{false, true} {
			to := g.Address(is6)
			require.True(t, to.IsMulticast())
			got, ok := Of(netip.AddrPortFrom(to, g.Port()))
			require.True(t, ok)
			require.Equal(t, g, got)
			_, ok = Of(netip.AddrPortFrom(to, g.Port()+1))
			require.False(t, ok)
			_, ok = Of(netip.AddrPortFrom((1 - g).Address(is6), g.Port()))
			require.False(t, ok)
		}
	}
}

// FuzzMessage gives the reflector a message, as one of the guest and as one of the network.
func FuzzMessage(f *testing.F) {
	for _, m := range [][]byte{message(0, 0), message(0, 1), message(0x84, 0), message(0x84, 1), {}} {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, m []byte) {
		if left, what := question(slices.Clone(m)); what == Sent {
			requireQuestions(t, left)
		}
		after := slices.Clone(m)
		ok := response(after)
		require.Len(t, after, len(m))
		if ok {
			requireNothingOfAnotherLink(t, after)
		}
	})
}

// requireQuestions checks that a message is understood by another reader, and has questions for an answer by multicast only.
func requireQuestions(t *testing.T, m []byte) {
	var read dns.Msg
	require.NoError(t, read.Unpack(m))
	require.NotEmpty(t, read.Question)
	require.Empty(t, slices.Concat(read.Answer, read.Ns, read.Extra))
	require.False(t, read.Response || read.Truncated)
	for _, q := range read.Question {
		require.Zero(t, q.Qclass>>15)
	}
}

// requireNothingOfAnotherLink checks that another reader finds no address that is good on another link only. He may find the
// message malformed: he looks into all records.
func requireNothingOfAnotherLink(t *testing.T, m []byte) {
	var read dns.Msg
	if read.Unpack(m) != nil {
		return
	}
	for _, r := range slices.Concat(read.Answer, read.Ns, read.Extra) {
		if a, ok := r.(*dns.AAAA); ok {
			require.False(t, a.AAAA.IsLinkLocalUnicast(), r)
		}
	}
}
