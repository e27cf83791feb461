package spec

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAWayIsReadAndPrinted(t *testing.T) {
	at := netip.MustParseAddrPort
	for text, want := range map[string]Way{
		"":                          {},
		"via=direct":                {Via: Proxy{Kind: Directly}},
		"via=socks5://192.0.2.1:80": {Via: Proxy{Kind: SOCKS5, At: at("192.0.2.1:80")}},
		"via=http://[2001:db8::1]:3128;interface=wg0": {
			Via: Proxy{Kind: HTTPConnect, At: at("[2001:db8::1]:3128")}, Interface4: "wg0", Interface6: "wg0",
		},
		"via=socks5://me:p%3Ba%40ss%3A%20%2F@127.0.0.1:1080": {
			Via: Proxy{Kind: SOCKS5, At: at("127.0.0.1:1080"), User: "me", Password: "p;a@ss: /"},
		},
		"via=http://me@192.0.2.1:3128":          {Via: Proxy{Kind: HTTPConnect, At: at("192.0.2.1:3128"), User: "me"}},
		"interface4=wg0;interface6=eth0.7":      {Interface4: "wg0", Interface6: "eth0.7"},
		"interface4=wg0":                        {Interface4: "wg0"},
		"address=192.0.2.7;address=2001:db8::7": {Address4: netip.MustParseAddr("192.0.2.7"), Address6: netip.MustParseAddr("2001:db8::7")},
		"interface6=wg0;address=2001:db8::7":    {Interface6: "wg0", Address6: netip.MustParseAddr("2001:db8::7")},
		"redirect=127.0.0.1:8443":               {Redirect: at("127.0.0.1:8443")},
		"redirect=[::1]:8443":                   {Redirect: at("[::1]:8443")},
	} {
		got, err := ParseWay(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		require.Equal(t, text, got.Text())
		if want.Via.Password == "" {
			require.Equal(t, text, got.String())
		}
	}
}

func TestAWayHasOtherSpellings(t *testing.T) {
	for text, want := range map[string]string{
		"via=socks5h://192.0.2.1:1080":          "via=socks5://192.0.2.1:1080",
		"via=http://localhost:3128/":            "via=http://127.0.0.1:3128",
		"redirect=localhost:8443":               "redirect=127.0.0.1:8443",
		"address=2001:db8::7;address=192.0.2.7": "address=192.0.2.7;address=2001:db8::7",
	} {
		got, err := ParseWay(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got.Text(), text)
	}
}

func TestWhatIsNoWayIsRefused(t *testing.T) {
	long := strings.Repeat("x", 256)
	for text, says := range map[string]string{
		"via=192.0.2.1:1080":                        "it is no URL",
		"via=":                                      "it is no URL",
		"via=https://192.0.2.1:1080":                "does not speak TLS to proxies",
		"via=socks4://192.0.2.1:1080":               "SOCKS 5 only",
		"via=ftp://192.0.2.1:1080":                  `"ftp" is not a kind of proxy`,
		"via=socks5://192.0.2.1":                    "its address or its port is missing",
		"via=socks5://192.0.2.1:0":                  "its port is not a number",
		"via=socks5://192.0.2.1:70000":              "its port is not a number",
		"via=socks5://192.0.2.1:1080/x":             "its port is not a number",
		"via=socks5://proxy.example:1080":           "a proxy is named by its address",
		"via=socks5://2001:db8::1:1080":             "in brackets",
		"via=socks5://0.0.0.0:1080":                 "the address of one host",
		"via=socks5://:pw@192.0.2.1:1080":           "a password without a user name",
		"via=socks5://me@192.0.2.1:1080":            "without a password",
		"via=http://m%3Ae:pw@192.0.2.1:1080":        "no colon",
		"via=http://me%0D%0A:pw@192.0.2.1:1080":     "control character",
		"via=http://me:%zz@192.0.2.1:1080":          "percent sign",
		"via=http://me:***@192.0.2.1:1080":          "write the password itself",
		"via=http://" + long + ":pw@192.0.2.1:1080": "255 bytes at most",
		"via=direct;via=direct":                     "via= is there twice",
		"via=http://127.0.0.1:1;interface=wg0":      "the proxy is on this host",
		"interface=":                                "names of interfaces",
		"interface=a-very-long-name":                "names of interfaces",
		"interface=a b":                             "names of interfaces",
		"interface=eth0;interface4=wg0":             "an interface is there already, eth0",
		"address=wg0":                               "not an IP address",
		"address=127.0.0.1":                         "an address of this host that others can answer to",
		"address=0.0.0.0":                           "an address of this host that others can answer to",
		"address=192.0.2.1;address=192.0.2.2":       "there already, 192.0.2.1",
		"redirect=127.0.0.1":                        "and a port",
		"redirect=127.0.0.1:1;redirect=127.0.0.1:2": "redirect= is there twice",
		"redirect=127.0.0.1:1;interface=wg0":        "leave via=, interface= and address= out",
		"redirect=127.0.0.1:1;via=direct":           "leave via=, interface= and address= out",
		"proxy=socks5://me:secret@192.0.2.1:1080":   `"proxy" is no key`,
	} {
		_, err := ParseWay(text)
		require.ErrorContains(t, err, says, text)
	}
}

// Whatever is wrong with the rest, no error, and nothing that is printed, holds the password.
func TestNobodyReadsAPassword(t *testing.T) {
	const secret = "hunter2"
	for _, text := range []string{
		"via=socks5://me:hunter2@192.0.2.1:1080", "via=http://me:hunter2@proxy:3128", "via=http://me:hunter2%@192.0.2.1:3128",
		"via=http://me:hunter2;x@192.0.2.1:3128", "via=http://me:hunter2@x@192.0.2.1:3128", "via=https://me:hunter2@192.0.2.1:3128",
		"via=http://me:hunter2@192.0.2.1:port", "via=http://me:hunter2@0.0.0.0:1", "via=http://me%3A:hunter2@192.0.2.1:1",
		"interface=wg0;via=http://me:hunter2@127.0.0.1:1", "via=http://me:hunter2", "via=http://:hunter2@192.0.2.1:1",
	} {
		way, err := ParseWay(text)
		require.NotContains(t, way.String(), secret, text)
		if err != nil {
			require.NotContains(t, err.Error(), secret, text)
		}
		if strings.Contains(text, "@") {
			require.NotContains(t, MaskSecrets(text), secret, text)
		}
	}
	way, err := ParseWay("via=socks5://me:hunter2@192.0.2.1:1080")
	require.NoError(t, err)
	require.Equal(t, "via=socks5://me:***@192.0.2.1:1080", way.String())
	require.Equal(t, "http://plain", MaskSecrets("http://plain"))
}

func TestWhatAWayDoesNotSayIsTheDefaults(t *testing.T) {
	const usual = "via=socks5://192.0.2.1:1080;interface=wg0;address=192.0.2.7"
	for text, want := range map[string]string{
		"":                          usual,
		"via=direct":                "via=direct;interface=wg0;address=192.0.2.7",
		"via=http://192.0.2.2:3128": "via=http://192.0.2.2:3128;interface=wg0;address=192.0.2.7",
		"via=http://127.0.0.1:3128": "via=http://127.0.0.1:3128",
		"interface=eth0":            "via=socks5://192.0.2.1:1080;interface=eth0;address=192.0.2.7",
		"interface6=eth0":           "via=socks5://192.0.2.1:1080;interface4=wg0;interface6=eth0;address=192.0.2.7",
		"address=2001:db8::7":       usual + ";address=2001:db8::7",
		"redirect=127.0.0.1:8443":   "redirect=127.0.0.1:8443",
	} {
		by, err := ParseWay(usual)
		require.NoError(t, err)
		way, err := ParseWay(text)
		require.NoError(t, err)
		require.Equal(t, want, way.Or(by).Text(), text)
	}
}

// FuzzParseWay reads whatever users write. What was read is printed so that it reads the same.
func FuzzParseWay(f *testing.F) {
	f.Add("via=socks5://me:p%3Bw@192.0.2.1:1080;interface=wg0;address=192.0.2.7;address=2001:db8::7")
	f.Add("redirect=[::1]:8443")
	f.Add("interface4=a;interface6=b")
	f.Fuzz(func(t *testing.T, text string) {
		way, err := ParseWay(text)
		if err != nil {
			return
		}
		again, err := ParseWay(way.Text())
		require.NoError(t, err)
		require.Equal(t, way, again)
		if p := way.Via.Password; len(p) > 3 && !strings.Contains(way.Via.User+way.Via.At.String()+"socks5://***", p) {
			require.NotContains(t, way.Via.String(), p)
		}
	})
}
