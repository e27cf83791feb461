package dns_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/dns"
)

func TestSearchDomainsAreThoseOfTheFile(t *testing.T) {
	long := strings.Repeat("a", 64)
	for lines, want := range map[string][]string{
		"search lab.example corp.example.":     {"lab.example", "corp.example"},
		"domain lab.example more":              {"lab.example"},
		"domain a.example\nsearch b.example":   {"b.example"},
		"search a.example\ndomain b.example":   {"b.example"},
		"search a.example\nsearch":             nil,
		"search .":                             nil,
		"search a.example a.example":           {"a.example"},
		"#search a.example\n;search b.example": nil,
		"search ok_1.example $(reboot) -x.y " + long + " " + strings.Repeat("a.", 127) + "bc": {"ok_1.example"},
		"search" + strings.Repeat(" x", 40) + " b.example":                                    {"x", "b.example"},
		"nameserver 192.0.2.1\noptions rotate timeout:1":                                      nil,
	} {
		t.Run(lines, func(t *testing.T) {
			r := dns.New(dns.Config{File: resolvConf(t, lines)})
			require.Equal(t, want, r.Search(0))
		})
	}
}

func TestASearchListIsBounded(t *testing.T) {
	var names []string
	for i := range 100 {
		names = append(names, strings.Repeat("a", i%60+1)+strings.Repeat("b", i/60)+".example")
	}
	r := dns.New(dns.Config{File: resolvConf(t, "search "+strings.Join(names, " "))})
	require.Equal(t, names[:32], r.Search(0))
}

func TestTheSearchListFollowsTheFile(t *testing.T) {
	file := resolvConf(t, "search a.example", "nameserver 192.0.2.1")
	r := dns.New(dns.Config{File: file})
	require.Equal(t, []string{"a.example"}, r.Search(0))
	write(t, file, "search b.example", "nameserver 192.0.2.1")
	require.Equal(t, []string{"a.example"}, r.Search(second-1), "looked at once a second")
	require.Equal(t, []string{"b.example"}, r.Search(second))
}

// A user who names the resolvers says where names are looked up: the host's own domains are no matter of them.
func TestWithConfiguredResolversThereIsNoSearchList(t *testing.T) {
	r := dns.New(dns.Config{
		Servers: dns.Plain(netip.MustParseAddrPort("192.0.2.1:53")), File: resolvConf(t, "search a.example"),
	})
	require.Empty(t, r.Search(0))
	require.Empty(t, dns.New(dns.Config{}).Search(0))
}
