package dnsmsg

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

func TestTheReverseNameOfAnAddressLeadsBackToIt(t *testing.T) {
	for _, text := range []string{"192.0.2.1", "0.0.0.0", "255.255.255.255", "2001:db8::1", "::", "fe80::dead:beef"} {
		name, err := dns.ReverseAddr(text)
		require.NoError(t, err)
		for _, spelled := range []string{name, strings.TrimSuffix(name, "."), strings.ToUpper(name)} {
			a, ok := AddrOf(spelled)
			require.True(t, ok, spelled)
			require.Equal(t, netip.MustParseAddr(text), a, spelled)
		}
	}
}

func TestOtherNamesAreThoseOfNoAddress(t *testing.T) {
	nibbles := strings.Repeat("0.", 31)
	for _, name := range []string{
		"", ".", "example.org.", "in-addr.arpa.", "ip6.arpa.", "2.0.192.in-addr.arpa.", "1.1.2.0.192.in-addr.arpa.", "256.2.0.192.in-addr.arpa.",
		"01.2.0.192.in-addr.arpa.", nibbles + "ip6.arpa.", nibbles + "0.0.ip6.arpa.", nibbles + "g.ip6.arpa.", nibbles + "00.ip6.arpa.", nibbles + ":.ip6.arpa.",
		nibbles + ".ip6.arpa.", nibbles + "+.ip6.arpa.", "::1.in-addr.arpa.",
	} {
		_, ok := AddrOf(name)
		require.False(t, ok, name)
	}
}

func TestAnAnswerSaysWhatIsTakenIfTheQueryDoes(t *testing.T) {
	query := new(dns.Msg).SetQuestion("example.org.", dns.TypeA)
	require.Nil(t, Answer(query, dns.RcodeRefused).IsEdns0())
	query.SetEdns0(4096, true)
	answer := Answer(query, dns.RcodeRefused)
	require.Equal(t, dns.RcodeRefused, answer.Rcode)
	require.EqualValues(t, maxDatagram, answer.IsEdns0().UDPSize())
	require.True(t, answer.IsEdns0().Do())
}

func TestABareAnswerKeepsWhatTellsWhichQueryItIsTo(t *testing.T) {
	b := Bare([]byte{0x12, 0x34, 0x29, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9}, dns.RcodeFormatError)
	require.Equal(t, []byte{0x12, 0x34, 0xa9, 0x01, 0, 0, 0, 0, 0, 0, 0, 0}, b)
}
