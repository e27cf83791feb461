package hostconf_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/hostconf"
)

// The example of RFC 3397 section 3 is eng.apple.com and marketing.apple.com, whose bytes are these.
func TestSearchDomainsAreCompressedAsTheStandardShows(t *testing.T) {
	want := "\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04"
	require.Equal(t, want, string(hostconf.CompressedNames([]string{"eng.apple.com", "marketing.apple.com"}, 512)))
}

func TestNamesThatAreNotCompressedStandAlone(t *testing.T) {
	got := hostconf.Names([]string{"a.example.org", "example.org"}, 512)
	require.Equal(t, "\x01a\x07example\x03org\x00\x07example\x03org\x00", string(got))
}

func TestACompressedListSaysWhatItWasMadeOf(t *testing.T) {
	domains := []string{"x.lab.example.org", "lab.example.org", "example.org", "y.lab.example.org", "z.y.lab.example.org", "other.net"}
	b := hostconf.CompressedNames(domains, 512)
	require.Less(t, len(b), len(hostconf.Names(domains, 512))/2)
	var got []string
	for at := 0; at < len(b); {
		name, next, err := dns.UnpackDomainName(b, at)
		require.NoError(t, err)
		got, at = append(got, strings.TrimSuffix(name, ".")), next
	}
	require.Equal(t, domains, got)
}

func TestDomainsThatAreNoneOrDoNotFitAreLeftOut(t *testing.T) {
	label := strings.Repeat("a", 63)
	require.Equal(t, "\x03org\x00", string(hostconf.Names([]string{"$(id)", "", "a..b", "a b", label + "a.org", "-x.org", "org"}, 512)))
	long := strings.Join([]string{label, label, label}, ".")
	for _, names := range [][]byte{
		hostconf.Names([]string{"a.org", long, long, long}, 512), hostconf.CompressedNames([]string{"a.org", long, "b" + long[1:], "c" + long[1:]}, 300),
	} {
		require.LessOrEqual(t, len(names), 512)
		require.Equal(t, "\x01a\x03org\x00", string(names[:7]))
	}
	require.Empty(t, hostconf.Names([]string{"a.org"}, 3))
}

func routes(t *testing.T, texts ...string) (list []hostconf.Route) {
	for _, text := range texts {
		r, err := hostconf.ParseRoute(text)
		require.NoError(t, err)
		require.Equal(t, text, r.String())
		list = append(list, r)
	}
	return list
}

// The networks are those of the table in RFC 3442.
func TestRoutesAreWrittenAsTheStandardShowsAndNeverWithoutTheDefaultOne(t *testing.T) {
	router := netip.MustParseAddr("10.0.2.2")
	got := hostconf.ClasslessRoutes(routes(t, "10.0.0.0/8=10.0.2.50", "10.17.0.0/16=10.0.2.50", "10.198.122.47/32=10.0.2.50", "10.229.0.128/25=10.0.2.50"), router)
	via := []byte{10, 0, 2, 50}
	var want []byte
	for _, network := range [][]byte{{8, 10}, {16, 10, 17}, {32, 10, 198, 122, 47}, {25, 10, 229, 0, 128}} {
		want = append(append(want, network...), via...)
	}
	require.Equal(t, append(want, 0, 10, 0, 2, 2), got)
	require.Equal(t, append([]byte{0}, via...), hostconf.ClasslessRoutes(routes(t, "0.0.0.0/0=10.0.2.50"), router))
	require.Nil(t, hostconf.ClasslessRoutes(nil, router), "then the option for routers says it")
}

func TestAClientBootsTheFirstFileThatItCanUse(t *testing.T) {
	var c hostconf.Config
	for _, text := range []string{"ipxe=http://h/x.ipxe?a=b", "bios=undionly.kpxe", "efi-x64=snp.efi", "http-x64=https://h/boot.efi", "22=odd", "http://h/rest"} {
		f, err := hostconf.ParseBootFile(text)
		require.NoError(t, err)
		require.Equal(t, text, f.String())
		c.BootFiles = append(c.BootFiles, f)
	}
	for want, client := range map[string]hostconf.Client{
		"http://h/x.ipxe?a=b": {Archs: []uint16{0}, IPXE: true, PXE: true},
		"undionly.kpxe":       {Archs: []uint16{0}, PXE: true},
		"snp.efi":             {Archs: []uint16{9}, PXE: true},
		"https://h/boot.efi":  {Archs: []uint16{16}, HTTP: true},
		"odd":                 {Archs: []uint16{22}},
		"http://h/rest":       {Archs: []uint16{11}, HTTP: true},
		"":                    {Archs: []uint16{11}, PXE: true}, // a PXE client cannot use a URL
	} {
		f, ok := c.BootFile(client)
		require.Equal(t, want != "", ok, client)
		require.Equal(t, want, f.Name, client)
	}
	c.BootFiles = c.BootFiles[1:2]
	_, ok := c.BootFile(hostconf.Client{HTTP: true, Archs: []uint16{0}})
	require.False(t, ok, "an HTTP client can use no file")
	require.Empty(t, c.BootURL(c.BootFiles[0]))
	c.BootServers = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	require.Equal(t, "tftp://[2001:db8::1]/undionly.kpxe", c.BootURL(c.BootFiles[0]))
	require.Equal(t, c.BootServers[0], c.BootServer(true))
}

func TestOptionsByNumberHaveTypes(t *testing.T) {
	for text, want := range map[string]string{
		"44=192.0.2.1,192.0.2.2": "\xc0\x00\x02\x01\xc0\x00\x02\x02",
		"44=ip:192.0.2.1":        "\xc0\x00\x02\x01",
		"66=text:192.0.2.1":      "192.0.2.1",
		"114=https://a/?b=1,2":   "https://a/?b=1,2",
		"26=hex:05:78":           "\x05\x78",
		"43=hex:":                "",
		"3=":                     "",
	} {
		o, err := hostconf.ParseOption(text)
		require.NoError(t, err, text)
		require.Equal(t, want, string(o.Value), text)
		require.Equal(t, text == "3=", o.Omit)
		require.Equal(t, text, o.String())
	}
	o, err := hostconf.ParseOption6("65000=2001:db8::1")
	require.NoError(t, err)
	require.Equal(t, netip.MustParseAddr("2001:db8::1").AsSlice(), o.Value)
	for _, bad := range []string{"", "=", "x=1", "-1=a", "0=a", "255=a", "82=x", "44=ip:", "7=" + strings.Repeat("x", 1025)} {
		_, err := hostconf.ParseOption(bad)
		require.Error(t, err, bad)
	}
}

func TestLeasesAreReadWithTheirMistakes(t *testing.T) {
	l, err := hostconf.ParseLease("52:54:00:12:34:56=fd00:10:0:2::50")
	require.NoError(t, err)
	require.Equal(t, hostconf.Lease{MAC: [6]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56}, Addr: netip.MustParseAddr("fd00:10:0:2::50")}, l)
	require.Equal(t, "52:54:00:12:34:56=fd00:10:0:2::50", l.String())
	require.Equal(t, map[[6]byte]netip.Addr{l.MAC: l.Addr}, hostconf.Fixed([]hostconf.Lease{l}, false))
	require.Empty(t, hostconf.Fixed([]hostconf.Lease{l}, true))
	for _, bad := range []string{"", "=", "00:00:00:00:00:00=10.0.2.9", "52:54:00:12:34:56:00:01=10.0.2.9", "52:54:00:12:34:56=", "52:54:00:12:34:56=fe80::1%eth0"} {
		_, err := hostconf.ParseLease(bad)
		require.Error(t, err, bad)
	}
}

func TestListsAreBounded(t *testing.T) {
	network, network6 := netip.MustParsePrefix("10.0.2.0/24"), netip.MustParsePrefix("fd00:10:0:2::/64")
	c := hostconf.Config{NTP: make([]netip.Addr, 9), Routes: make([]hostconf.Route, 33), Options: make([]hostconf.Option, 65), Leases: make([]hostconf.Lease, 257)}
	err := c.Check(network, network6)
	for _, flag := range []string{"--ntp: given 9 times", "--route: given 33 times", "--dhcp-option: given 65 times", "--lease: given 257 times"} {
		require.ErrorContains(t, err, flag)
	}
	require.Error(t, hostconf.CheckSearch(make([]string, 33)))
	require.NoError(t, (&hostconf.Config{}).Check(network, netip.Prefix{}))
}
