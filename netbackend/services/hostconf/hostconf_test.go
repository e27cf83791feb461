package hostconf_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/hashicorp/go-multierror"
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
	for bad, why := range map[string]string{
		"":                                   "want MAC=ADDRESS",
		"=":                                  "want MAC=ADDRESS",
		"52:54:00:12:34:56=":                 "want MAC=ADDRESS",
		"52:54:00:12:34:56:00:01=10.0.2.9":   "want MAC=ADDRESS",
		"52:54:00:12:34:56=fe80::1%eth0":     "want MAC=ADDRESS",
		"00:00:00:00:00:00=10.0.2.9":         "00:00:00:00:00:00 is not the address of one Ethernet interface",
		"ff:ff:ff:ff:ff:ff=10.0.2.9":         "ff:ff:ff:ff:ff:ff is not the address of one Ethernet interface",
		"01:00:5e:00:00:01=10.0.2.9":         "01:00:5e:00:00:01 is not the address of one Ethernet interface", // a group's
		"52:54:00:12:34:56,[fd00:10:0:2::9]": "write --lease 52:54:00:12:34:56=fd00:10:0:2::9",
	} {
		_, err := hostconf.ParseLease(bad)
		require.ErrorContains(t, err, why, bad)
	}
}

// Each list is right up to its bound, and one more is wrong because of the bound alone.
func TestListsAreBounded(t *testing.T) {
	network, network6 := netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("fd00:10:0:2::/64")
	with := func(n int) (c hostconf.Config) {
		host := network.Addr()
		for i := range n {
			host = host.Next()
			option := hostconf.Option{Code: uint16(100 + i), Value: []byte{1}}
			c.NTP = append(c.NTP, host)
			c.Routes = append(c.Routes, hostconf.Route{Network: netip.PrefixFrom(host, 32), Router: host})
			c.Options, c.Options6 = append(c.Options, option), append(c.Options6, option)
			c.BootFiles = append(c.BootFiles, hostconf.BootFile{Name: "https://192.0.2.1/boot"})
			c.Leases = append(c.Leases, hostconf.Lease{MAC: [6]byte{2, 0, 0, 0, byte(i >> 8), byte(i)}, Addr: host})
		}
		return c
	}
	for flag, list := range map[string]struct {
		most int
		of   func(hostconf.Config) hostconf.Config
	}{
		"--ntp":          {8, func(c hostconf.Config) hostconf.Config { return hostconf.Config{NTP: c.NTP} }},
		"--route":        {32, func(c hostconf.Config) hostconf.Config { return hostconf.Config{Routes: c.Routes} }},
		"--dhcp-option":  {64, func(c hostconf.Config) hostconf.Config { return hostconf.Config{Options: c.Options} }},
		"--dhcp6-option": {64, func(c hostconf.Config) hostconf.Config { return hostconf.Config{Options6: c.Options6} }},
		"--boot-file":    {64, func(c hostconf.Config) hostconf.Config { return hostconf.Config{BootFiles: c.BootFiles} }},
		"--lease":        {256, func(c hostconf.Config) hostconf.Config { return hostconf.Config{Leases: c.Leases} }},
	} {
		most, tooMany := list.of(with(list.most)), list.of(with(list.most+1))
		require.NoError(t, most.Check(network, network6), flag)
		var all *multierror.Error
		require.ErrorAs(t, tooMany.Check(network, network6), &all)
		require.Len(t, all.Errors, 1)
		require.EqualError(t, all.Errors[0], fmt.Sprintf("%s: given %d times; want %d at most", flag, list.most+1, list.most))
	}
	require.NoError(t, (&hostconf.Config{}).Check(network, netip.Prefix{}))
}

func TestSearchDomainsAreBounded(t *testing.T) {
	var domains []string
	for i := range 32 {
		domains = append(domains, fmt.Sprintf("d%d.example", i))
	}
	require.NoError(t, hostconf.CheckSearch(domains))
	require.EqualError(t, hostconf.CheckSearch(append(domains, "one-more.example")), "--search: given 33 times; want 32 at most")
}
