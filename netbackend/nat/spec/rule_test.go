package spec

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRulesReadAsTheyAreWritten(t *testing.T) {
	prefix := netip.MustParsePrefix
	for text, want := range map[string]Rule{
		"192.0.2.0/24":             {Prefix: prefix("192.0.2.0/24")},
		"192.0.2.1/32":             {Prefix: prefix("192.0.2.1/32")},
		"0.0.0.0/0:25":             {Prefix: prefix("0.0.0.0/0"), First: 25, Last: 25},
		"tcp:192.0.2.0/24:443":     {Proto: protoTCP, Prefix: prefix("192.0.2.0/24"), First: 443, Last: 443},
		"udp:192.0.2.1/32:1-65535": {Proto: protoUDP, Prefix: prefix("192.0.2.1/32"), First: 1, Last: 65535},
		"icmp:192.0.2.1/32":        {Proto: protoICMP, Prefix: prefix("192.0.2.1/32")},
		"2001:db8::/32":            {Prefix: prefix("2001:db8::/32")},
		"::1:2:3:4:5:6/128":        {Prefix: prefix("::1:2:3:4:5:6/128")},
		"udp:::/0":                 {Proto: protoUDP, Prefix: prefix("::/0")},
		"tcp:[2001:db8::/32]:443":  {Proto: protoTCP, Prefix: prefix("2001:db8::/32"), First: 443, Last: 443},
		"[2001:db8::1/128]:80-90":  {Prefix: prefix("2001:db8::1/128"), First: 80, Last: 90},
	} {
		for _, allow := range []bool{true, false} {
			got, err := ParseRule(text, allow)
			require.NoError(t, err, text)
			want.Allow = allow
			require.Equal(t, want, got, text)
			require.Equal(t, text, got.String())
			require.NoError(t, got.Check(prefix("10.0.2.0/24")))
		}
	}
	got, err := ParseRule("192.0.2.1:80", true)
	require.NoError(t, err)
	require.Equal(t, "192.0.2.1/32:80", got.String(), "an address alone is meant alone")
}

func TestAWrongRuleIsToldByItsWrongPart(t *testing.T) {
	for text, part := range map[string]string{
		"":                      `"" is not an IP address`,
		"internet":              `"internet" is not an IP address`,
		"sctp:192.0.2.1:80":     `"sctp" is not an IP address`,
		"tcp:":                  `"" is not an IP address`,
		"192.0.2:80":            `"192.0.2" is not an IP address`,
		"2001:db8::g/32":        `"2001:db8::g" is not an IP address`,
		"2001:db8::/129":        `"129" is not a length between 0 and 128`,
		"2001:db8::1/32":        "2001:db8::1/32 has bits set behind its first 32; 2001:db8::/32 was meant, or 2001:db8::1",
		"[2001:db8::]x":         `"x" is not a port`,
		"[2001:db8::]:":         `"" is not a port`,
		"[2001:db8::":           `"[2001" is not an IP address`,
		"fe80::1%eth0":          `"fe80::1%eth0" has a zone`,
		"::ffff:192.0.2.1":      `"::ffff:192.0.2.1" is an IPv4 address, and reads 192.0.2.1`,
		"192.0.2.0/33":          `"33" is not a length between 0 and 32`,
		"192.0.2.0/":            `"" is not a length between 0 and 32`,
		"192.0.2.0/x:80":        `"x" is not a length between 0 and 32`,
		"192.0.2.1/24":          "192.0.2.1/24 has bits set behind its first 24; 192.0.2.0/24 was meant, or 192.0.2.1",
		"192.0.2.0/24:":         `"" is not a port`,
		"192.0.2.0/24:0":        `"0" is not a port`,
		"192.0.2.0/24:65536":    `"65536" is not a port`,
		"192.0.2.0/24:80-":      `"" is not a port`,
		"192.0.2.0/24:90-80":    `the range "90-80" ends before it begins`,
		"icmp:192.0.2.0/24:80":  "ICMP has no ports",
		"192.0.2.0/24:80:90":    `"80:90" is not a port`,
		"tcp:udp:192.0.2.1":     `"udp" is not an IP address`,
		"192.0.2.1 :80":         `"192.0.2.1 " is not an IP address`,
		"tcp:192.0.2.0/24:80-x": `"x" is not a port`,
	} {
		t.Run(text, func(t *testing.T) {
			_, err := ParseRule(text, true)
			require.ErrorContains(t, err, part)
			require.ErrorContains(t, err, fmt.Sprintf("rule %q", text))
			require.ErrorContains(t, err, RuleForm)
		})
	}
}

func FuzzParseRule(f *testing.F) {
	f.Add("tcp:192.0.2.0/24:80-90")
	f.Add("icmp:192.0.2.1")
	f.Add("0.0.0.0/0:1")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRule(text, true)
		if err != nil {
			return
		}
		again, err := ParseRule(r.String(), true)
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%q is %v, which is %v, %v", text, r, again, err)
		}
	})
}

func TestADestinationMatchesWhatItNames(t *testing.T) {
	for _, c := range []struct {
		text, to string
		proto    uint8
		matches  bool
	}{
		{"192.0.2.0/24", "192.0.2.9:80", protoTCP, true},
		{"192.0.2.0/24", "192.0.3.9:80", protoTCP, false},
		{"192.0.2.9", "192.0.2.9:0", protoICMP, true},
		{"tcp:192.0.2.0/24", "192.0.2.9:80", protoUDP, false},
		{"192.0.2.9:80", "192.0.2.9:80", protoUDP, true},
		{"192.0.2.9:80", "192.0.2.9:81", protoTCP, false},
		{"192.0.2.9:80-90", "192.0.2.9:90", protoTCP, true},
		{"192.0.2.9:80-90", "192.0.2.9:91", protoTCP, false},
		{"192.0.2.9:80", "192.0.2.9:80", protoICMP, false}, // ICMP has no ports, and its number is none
		{"[2001:db8::1]:443", "[2001:db8::1]:443", protoTCP, true},
		{"::/0", "192.0.2.9:80", protoTCP, false},
	} {
		r, err := ParseDestination(c.text)
		require.NoError(t, err)
		require.Equal(t, c.matches, r.Matches(c.proto, netip.MustParseAddrPort(c.to)), "%s: %s", c.text, c.to)
	}
	_, err := ParseDestination("tcp:192.0.2.0/33:80")
	require.ErrorContains(t, err, `"tcp:192.0.2.0/33:80"`)
	require.ErrorContains(t, err, "want "+RuleForm)
}

func TestProtocolsHaveNames(t *testing.T) {
	for _, proto := range []uint8{protoTCP, protoUDP, protoICMP} {
		got, ok := ParseProto(ProtoName(proto))
		require.True(t, ok)
		require.Equal(t, proto, got)
	}
	_, ok := ParseProto("sctp")
	require.False(t, ok)
}
