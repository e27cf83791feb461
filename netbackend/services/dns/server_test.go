package dns_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/dns"
)

func TestAResolverIsReadAndPrinted(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1:53", "192.0.2.1:5353": "", "::1": "[::1]:53", "[::1]": "[::1]:53", "[::1]:5353": "",
		"tls://192.0.2.1": "tls://192.0.2.1:853", "tls://192.0.2.1:8853": "", "tls://2001:db8::1": "tls://[2001:db8::1]:853",
		"tls://[2001:db8::1]#DNS.example.": "tls://[2001:db8::1]:853#dns.example", "tls://192.0.2.1:853#dns.example": "",
	} {
		if want == "" {
			want = text
		}
		s, err := dns.ParseServer(text)
		require.NoError(t, err, text)
		require.Equal(t, want, s.String())
		again, err := dns.ParseServer(s.String())
		require.NoError(t, err)
		require.Equal(t, s, again)
	}
	for _, text := range []string{
		"", "dns.example", "192.0.2.1:", "192.0.2.1:99999", "[192.0.2.1]", "192.0.2.1#dns.example", "tls://", "tls://dns.example", "tls://192.0.2.1#", "tls://192.0.2.1#a b",
		"tls://192.0.2.1#-x", "tls://192.0.2.1#a..b", "TLS://192.0.2.1", "https://192.0.2.1", "tls://tls://192.0.2.1",
	} {
		_, err := dns.ParseServer(text)
		require.Error(t, err, text)
	}
}

func TestACertificateIsForTheNameOrTheAddress(t *testing.T) {
	for text, want := range map[string]string{"tls://192.0.2.1#dns.example": "dns.example", "tls://192.0.2.1": "192.0.2.1", "tls://[::ffff:192.0.2.1]:853": "192.0.2.1"} {
		s, err := dns.ParseServer(text)
		require.NoError(t, err)
		require.Equal(t, want, s.Identity())
	}
}

// What one is told in secret, another one that stands in for it must not be told in clear text.
func TestResolversByTLSAreNotMixedWithOthers(t *testing.T) {
	read := func(texts ...string) (list []dns.Server) {
		for _, text := range texts {
			s, err := dns.ParseServer(text)
			require.NoError(t, err)
			list = append(list, s)
		}
		return list
	}
	require.NoError(t, dns.CheckServers(nil))
	require.NoError(t, dns.CheckServers(read("::1", "::2")))
	require.NoError(t, dns.CheckServers(read("tls://::1", "tls://::2")))
	for _, mixed := range [][]string{{"::1", "tls://::2"}, {"tls://::1", "::2"}} {
		require.ErrorContains(t, dns.CheckServers(read(mixed...)), "want tls:// for all, or for none")
	}
}
