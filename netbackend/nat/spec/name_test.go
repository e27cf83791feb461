package spec

import (
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNamesHaveOneSpelling(t *testing.T) {
	for text, want := range map[string]string{
		"example.org": "example.org", "Example.ORG.": "example.org", ".example.org": ".example.org", "*.example.org": "*.example.org", "*": "*",
		"mirror-*.debian.org": "mirror-*.debian.org", "*.cdn-*.example.org": "*.cdn-*.example.org", "a.*.example.org": "a.*.example.org",
		"*a.example.org": "*a.example.org", "localhost": "localhost", "_dmarc.example.org": "_dmarc.example.org",
		"xn--bcher-kva.example": "xn--bcher-kva.example", ".com": ".com", strings.Repeat("a", 63) + ".org": strings.Repeat("a", 63) + ".org",
	} {
		got, err := ParseName(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
		again, err := ParseName(got)
		require.NoError(t, err)
		require.Equal(t, got, again)
	}
}

func TestWhatIsNoNameIsToldByItsWrongPart(t *testing.T) {
	for text, part := range map[string]string{
		"": `"" is not a name`, ".": "is not a name", "..org": "empty label", "a..org": "empty label", "example.org..": "empty label",
		"192.0.2.1": "--allow and --deny", "2001:db8::1": "--allow and --deny", "1.2": "ends in a number", "example.*": `names anybody's domain`, "*.*": "names anybody's domain",
		"ex ample.org": `the character ' '`, "example.org/": `the character '/'`, "http://example.org": `the character ':'`,
		strings.Repeat("a", 64) + ".org":           "longer than 63",
		strings.Repeat("a.", 127) + "org":          "longer than 253",
		"bücher.example":                           "xn--bcher-kva.example",
		"*.bücher.example":                         "xn--bcher-kva.example",
		"\u202eexample.org":                        "A-labels",
		strings.Repeat("ü", 40) + "." + "example":  "name service knows them",
		strings.Repeat("ü", 100) + "." + "example": "name service knows them",
	} {
		_, err := ParseName(text)
		require.ErrorContains(t, err, part, text)
	}
}

func TestANameOfAPeerIsComparedInOneSpelling(t *testing.T) {
	for name, want := range map[string]string{
		"example.org": "example.org", "EXAMPLE.org.": "example.org", "localhost": "localhost", "a_b.example": "a_b.example",
		"": "", ".": "", "a..b": "", ".a": "", "192.0.2.1": "", "127.1": "", "0x7f.1": "", "[::1]": "", "2001:db8::1": "", "a b.org": "", "a\x00.org": "", "*.example.org": "",
		"example.org..": "", "bücher.example": "", strings.Repeat("a", 64): "", strings.Repeat("a.", 127) + "a": strings.Repeat("a.", 126) + "a", "example.org:443": "",
	} {
		if len(name) > MaxName {
			want = ""
		}
		require.Equal(t, want, CanonicalName(name), name)
	}
}

func TestRulesByNameReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]Rule{
		"example.org":                   {Named: Named{Name: "example.org"}},
		"tcp:.example.org:443":          {Proto: protoTCP, Named: Named{Name: ".example.org", Ports: []Ports{{443, 443}}}},
		"udp:*.example.org:1-65535":     {Proto: protoUDP, Named: Named{Name: "*.example.org", Ports: []Ports{{1, 65535}}}},
		"*.debian.org:80,443,8000-8099": {Named: Named{Name: "*.debian.org", Ports: []Ports{{80, 80}, {443, 443}, {8000, 8099}}}},
		"@apt:80,443":                   {Named: Named{Name: "@apt", Ports: []Ports{{80, 80}, {443, 443}}}},
		"example.org:22;verify=dns":     {Named: Named{Name: "example.org", Ports: []Ports{{22, 22}}, Verify: VerifyDNS}},
		"example.org;verify=tls":        {Named: Named{Name: "example.org", Verify: VerifyTLS}},
		"example.org:8080;verify=tls;chain=listed;private;quic=verify": {
			Named: Named{Name: "example.org", Ports: []Ports{{8080, 8080}}, Verify: VerifyTLS, Listed: true, Private: true, QUIC: true},
		},
		"example.org:443;via=socks5://192.0.2.1:1080": {
			Named: Named{Name: "example.org", Ports: []Ports{{443, 443}}}, Way: must(ParseWay("via=socks5://192.0.2.1:1080")),
		},
	} {
		got, err := ParseNameRule(text, true)
		require.NoError(t, err, text)
		want.Allow = true
		require.Equal(t, want, got, text)
		require.Equal(t, text, got.String())
		require.NoError(t, got.Check(), text)
		require.Equal(t, "--allow-name", got.Option())
	}
	for text, want := range map[string]string{
		"Example.ORG.:443,80,80": "example.org:80,443", "example.org:80-90,85-100,101": "example.org:80-101",
		"example.org;private;verify=dns": "example.org;verify=dns;private", "example.org;chain=any": "example.org",
	} {
		got, err := ParseNameRule(text, false)
		require.NoError(t, err, text)
		require.Equal(t, want, got.String())
		require.Equal(t, "--deny-name", got.Option())
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestAWayStandsBehindARuleByAddress(t *testing.T) {
	r, err := ParseRule("tcp:192.0.2.0/24:443;via=socks5://u:secret@192.0.2.1:1080", true)
	require.NoError(t, err)
	require.NoError(t, r.Check())
	require.Equal(t, "tcp:192.0.2.0/24:443;via=socks5://u:***@192.0.2.1:1080", r.String())
	require.Equal(t, "tcp:192.0.2.0/24:443;via=socks5://u:secret@192.0.2.1:1080", r.Text())
	r.Allow = false
	require.ErrorContains(t, r.Check(), "what is denied takes no way")
}

func TestAWrongRuleByNameIsToldByItsWrongPart(t *testing.T) {
	for text, part := range map[string]string{
		"":                            `"" is not a name`,
		"icmp:example.org":            "ICMP has no names",
		"192.0.2.1:80":                "--allow and --deny",
		"example.org:":                `"" is not a port`,
		"example.org:80,":             `"" is not a port`,
		"example.org:0":               `"0" is not a port`,
		"example.org:90-80":           "ends before it begins",
		"@:80":                        `group ""`,
		"@A b":                        `group "A b"`,
		"example.org;verify=sni":      "want dns, tls or http",
		"example.org;verify":          "want dns, tls or http",
		"example.org;chain=all":       "want any or listed",
		"example.org;quic":            "want verify",
		"example.org;private=yes":     `"private" has no value`,
		"example.org;":                `"" is not a key`,
		"example.org;secret":          `"secret" is not a key`,
		"example.org;via=http://x:y@": "proxy",
	} {
		_, err := ParseNameRule(text, true)
		require.ErrorContains(t, err, part, text)
		require.ErrorContains(t, err, NameRuleForm)
	}
	_, err := ParseNameRule("example.org;via=http://u:secret@x", true)
	require.NotContains(t, err.Error(), "secret")
	_, err = ParseRule("192.0.2.1;private", true)
	require.ErrorContains(t, err, `"private" is not a key`, "it is a key of rules by name only")
}

func TestARuleByNameThatCouldNotBeMeantIsRefused(t *testing.T) {
	for text, c := range map[string]struct {
		allow bool
		part  string
	}{
		"example.org;private":                     {false, "are for rules that allow"},
		"example.org;chain=listed":                {false, "are for rules that allow"},
		"example.org;via=socks5://192.0.2.1:1080": {false, "takes no way"},
		"tcp:example.org;quic=verify":             {true, "about UDP"},
		"example.org:8080;quic=verify":            {true, "write port 443 or verify=tls"},
		"example.org;verify=http;quic=verify":     {true, "write port 443 or verify=tls"},
		"example.org;verify=dns;quic=verify":      {true, "write port 443 or verify=tls"},
		"example.org:" + oddPorts(65):             {true, "there may be 64"},
	} {
		r, err := ParseNameRule(text, c.allow)
		require.NoError(t, err, text)
		require.ErrorContains(t, r.Check(), c.part, text)
	}
}

func TestARuleForQUICIsAboutPortsWithTLS(t *testing.T) {
	for _, text := range []string{"example.org;quic=verify", "example.org:80,443;quic=verify", "udp:example.org:400-500;quic=verify", "example.org:8443;verify=tls;quic=verify"} {
		r, err := ParseNameRule(text, true)
		require.NoError(t, err)
		require.NoError(t, r.Check())
	}
}

// oddPorts are n ports of which no two are neighbours.
func oddPorts(n int) string {
	var list []string
	for i := range n {
		list = append(list, strconv.Itoa(2*i+1))
	}
	return strings.Join(list, ",")
}

func TestAFileOfNamesHasOneALine(t *testing.T) {
	names, err := ParseNameList("# comment\n\nExample.org\r\n  .debian.org # all of it\n*")
	require.NoError(t, err)
	require.Equal(t, []string{"example.org", ".debian.org", "*"}, names)
	_, err = ParseNameList("a.org\nb org\n")
	require.ErrorContains(t, err, "line 2")
	names, err = ParseNameList("")
	require.NoError(t, err)
	require.Empty(t, names)
}

func FuzzParseNameRule(f *testing.F) {
	for _, text := range []string{"tcp:*.example.org:80-90,443;verify=tls;private", "@apt", "a-*.b:1", ";", "udp:x:1;quic=verify"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseNameRule(text, true)
		if err != nil {
			return
		}
		again, err := ParseNameRule(r.Text(), true)
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%q is %v, which is %v, %v", text, r, again, err)
		}
	})
}
