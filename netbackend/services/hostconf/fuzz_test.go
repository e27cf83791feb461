package hostconf_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/hostconf"
)

// FuzzParse reads a text as each of the options that tell hosts something. What can be read is printed as it was meant, fits
// what carries it, and can be checked.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"52:54:00:12:34:56=10.0.2.50", "52:54:00:12:34:56,fd00:10:0:2::50", "52-54-00-12-34-56=[::1%eth0]", "192.168.7.0/24=10.0.2.50", "0.0.0.0/0 via 10.0.2.2",
		"44=192.0.2.1,192.0.2.2", "66=text:192.0.2.1", "26=hex:05:78", "3=", "65000=2001:db8::1", "31=ip:fd00::1,fd00::2", "7=010",
		"ipxe=http://h/x.ipxe?a=b", "22=odd", "pxelinux.0", "eng.apple.com", "a_b.c-d.", "-a", "\\097.b",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var c hostconf.Config
		c.Leases = readAgain(t, text, hostconf.ParseLease)
		c.Routes = readAgain(t, text, hostconf.ParseRoute)
		c.BootFiles = readAgain(t, text, hostconf.ParseBootFile)
		c.Options = readAgain(t, text, hostconf.ParseOption)
		c.Options6 = readAgain(t, text, hostconf.ParseOption6)
		_ = c.Check(netip.MustParsePrefix("10.0.2.0/24"), netip.MustParsePrefix("fd00:10:0:2::/64"))
		for _, l := range c.Leases {
			require.Zero(t, l.MAC[0]&1, "of one host")
			require.Empty(t, l.Addr.Zone())
		}
		for _, o := range append(c.Options, c.Options6...) {
			require.LessOrEqual(t, len(o.Value), 1024)
			require.NotZero(t, o.Code)
		}
		for _, b := range c.BootFiles {
			require.NotContains(t, b.Name, "\x00", "a field of fixed length ends there")
			c.BootFile(hostconf.Client{Archs: []uint16{0, 7, 22}, IPXE: true})
		}
		if len(c.Routes) > 0 {
			require.LessOrEqual(t, len(hostconf.ClasslessRoutes(c.Routes, netip.MustParseAddr("10.0.2.2"))), 9+5)
		}
		checkDomain(t, text)
	})
}

// readAgain returns what parse makes of a text. If it is refused with a correction, that can be read.
func readAgain[T interface{ String() string }](t *testing.T, text string, parse func(string) (T, error)) (list []T) {
	v, err := parse(text)
	if err == nil {
		again, err := parse(v.String())
		require.NoError(t, err)
		require.Equal(t, v.String(), again.String())
		return append(list, v)
	}
	require.NotContains(t, err.Error(), "\n")
	if _, correction, found := strings.Cut(err.Error(), "; write --"); found {
		_, value, _ := strings.Cut(correction, " ")
		_, err := parse(value)
		require.NoError(t, err, value)
	}
	return nil
}

// checkDomain checks that a domain which is one is told as it is, twice.
func checkDomain(t *testing.T, text string) {
	domains := []string{text, "a." + text}
	if hostconf.CheckSearch(domains) != nil {
		return
	}
	for _, b := range [][]byte{hostconf.Names(domains, 1024), hostconf.CompressedNames(domains, 1024)} {
		var got []string
		for at := 0; at < len(b); {
			name, next, err := dns.UnpackDomainName(b, at)
			require.NoError(t, err)
			got, at = append(got, strings.TrimSuffix(name, ".")), next
		}
		require.Equal(t, domains, got)
	}
}
