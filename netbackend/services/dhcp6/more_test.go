package dhcp6_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/dhcp6"
	"github.com/vringnet/vring/netbackend/services/hostconf"
	pool "github.com/vringnet/vring/netbackend/services/lease"
)

// full is the configuration of a network whose hosts are told all there is.
func full(t testing.TB, options ...string) dhcp6.Config {
	cfg := dhcp6.Config{
		MAC: [6]byte{0x52, 0x55, 10, 0, 2, 2}, Guest: netip.MustParseAddr("fd00:10:0:2::15"),
		Prefix: netip.MustParsePrefix("fd00:10:0:2::/64"), DNS: []netip.Addr{netip.MustParseAddr("fd00:10:0:2::3")},
		Search: func() []string { return []string{"a.example.org", "example.org"} },
	}
	cfg.More.NTP = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::123")}
	cfg.More.BootServers = []netip.Addr{netip.MustParseAddr("2001:db8::69")}
	for _, text := range []string{"ipxe=http://h/x.ipxe", "efi-x64=snp.efi", "http-x64=http://h/boot.efi"} {
		f, err := hostconf.ParseBootFile(text)
		require.NoError(t, err)
		cfg.More.BootFiles = append(cfg.More.BootFiles, f)
	}
	for _, text := range options {
		o, err := hostconf.ParseOption6(text)
		require.NoError(t, err)
		cfg.More.Options6 = append(cfg.More.Options6, o)
	}
	return cfg
}

// reply returns the answer of a server with that configuration.
func reply(t *testing.T, cfg dhcp6.Config, m *dhcpv6.Message) *dhcpv6.Message {
	t.Helper()
	a, ok := dhcp6.New(cfg).Answer(0, [6]byte(guestMAC), m.ToBytes())
	require.True(t, ok)
	r, err := dhcpv6.MessageFromBytes(a.Message)
	require.NoError(t, err)
	return r
}

func TestHostsAreToldWhatTheConfigurationSays(t *testing.T) {
	r := reply(t, full(t, "21=text:sip", "23=2001:db8::53", "31="), message(dhcpv6.MessageTypeInformationRequest))
	require.Equal(t, "\x01a\x07example\x03org\x00\x07example\x03org\x00", string(r.GetOneOption(dhcpv6.OptionDomainSearchList).ToBytes()))
	require.Equal(t, []net.IP{net.ParseIP("2001:db8::123")}, r.Options.NTPServers())
	require.Equal(t, "sip", string(r.GetOneOption(21).ToBytes()))
	require.Equal(t, []net.IP{net.ParseIP("2001:db8::53")}, r.Options.DNS(), "an option by its number is of more weight")
	require.Nil(t, r.Options.SNTP(), "and leaves out what it has no value for")
	require.Len(t, reply(t, full(t), message(dhcpv6.MessageTypeInformationRequest)).Options.SNTP(), 1)
}

func TestAClientIsToldOfTheFileThatItCanBoot(t *testing.T) {
	arch := func(a iana.Arch) dhcpv6.Option { return dhcpv6.OptClientArchType(a) }
	class := func(text string) dhcpv6.Option {
		return &dhcpv6.OptVendorClass{EnterpriseNumber: 343, Data: [][]byte{[]byte(text)}}
	}
	solicit := func(options ...dhcpv6.Option) *dhcpv6.Message {
		return reply(t, full(t), message(dhcpv6.MessageTypeSolicit, append(options, lease())...))
	}
	require.Equal(t, "http://h/x.ipxe", solicit(arch(iana.EFI_X86_64), &dhcpv6.OptUserClass{UserClasses: [][]byte{[]byte("iPXE")}}).Options.BootFileURL())
	require.Equal(t, "tftp://[2001:db8::69]/snp.efi", solicit(arch(iana.EFI_X86_64), class("PXEClient:Arch:00007")).Options.BootFileURL())
	http := solicit(arch(iana.EFI_X86_64_HTTP), class("HTTPClient:Arch:00016"))
	require.Equal(t, "http://h/boot.efi", http.Options.BootFileURL())
	require.Equal(t, [][]byte{[]byte("HTTPClient")}, http.Options.VendorClass(343), "without it UEFI does not take the offer")
	require.Empty(t, solicit(arch(iana.EFI_ARM64)).Options.BootFileURL())
	require.Empty(t, solicit().Options.VendorClasses())
}

func TestAnAnswerFitsEveryLink(t *testing.T) {
	cfg := full(t, "65000="+strings.Repeat("x", 700), "65001="+strings.Repeat("y", 700))
	cfg.Search = func() []string {
		return []string{strings.Repeat("d", 60) + ".example", strings.Repeat("e", 60) + ".example"}
	}
	a, ok := dhcp6.New(cfg).Answer(0, [6]byte(guestMAC), message(dhcpv6.MessageTypeSolicit, lease()).ToBytes())
	require.True(t, ok)
	require.LessOrEqual(t, len(a.Message), 1232)
	r, err := dhcpv6.MessageFromBytes(a.Message)
	require.NoError(t, err)
	requireLease(t, r)
	require.NotNil(t, r.GetOneOption(65000))
	require.Nil(t, r.GetOneOption(65001))
}

// A host that asks for a hundred addresses, or has a name of a thousand bytes, gets no answer that a link does not carry.
func TestAnAnswerFitsEveryLinkHoweverMuchIsAskedFor(t *testing.T) {
	m := message(dhcpv6.MessageTypeSolicit)
	for range 100 {
		m.AddOption(lease(foreign, foreign, foreign, foreign, foreign))
		m.AddOption(&dhcpv6.OptIATA{IaId: iaid})
		m.AddOption(&dhcpv6.OptIAPD{IaId: iaid})
	}
	a, ok := dhcp6.New(full(t)).Answer(0, [6]byte(guestMAC), m.ToBytes())
	require.True(t, ok)
	require.LessOrEqual(t, len(a.Message), 1232)
	r, err := dhcpv6.MessageFromBytes(a.Message)
	require.NoError(t, err)
	requireLease(t, r)
	require.Len(t, r.Options.IANA(), 8)
	require.NotEmpty(t, r.Options.DNS(), "and what it is told beside does not make way")

	long := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeSolicit}
	long.AddOption(dhcpv6.OptClientID(&dhcpv6.DUIDOpaque{Type: 7, Data: make([]byte, 1000)}))
	_, ok = dhcp6.New(full(t)).Answer(0, [6]byte(guestMAC), long.ToBytes())
	require.False(t, ok)
	long.Options.Options = nil
	long.AddOption(dhcpv6.OptClientID(&dhcpv6.DUIDOpaque{Type: 7, Data: make([]byte, 128)}))
	_, ok = dhcp6.New(full(t)).Answer(0, [6]byte(guestMAC), long.ToBytes())
	require.True(t, ok, "the longest there may be")
}

func TestEachHostGetsAnAddressOfItsOwn(t *testing.T) {
	now := int64(1e9)
	cfg := full(t)
	cfg.Book = pool.New(pool.Config{
		Primary: cfg.Guest, First: netip.MustParseAddr("fd00:10:0:2::1:0"), Count: 1,
		User:  func(netip.Addr) (mac [6]byte) { return mac },
		Heard: func([6]byte) int64 { return now },
	})
	s := dhcp6.New(cfg)
	from := func(n byte, m *dhcpv6.Message) (dhcp6.Answer, *dhcpv6.OptIANA) {
		now += 1e8
		a, ok := s.Answer(now, [6]byte{2, 0, 0, 0, 0, n}, m.ToBytes())
		require.True(t, ok)
		if a.Message == nil {
			return a, nil
		}
		r, err := dhcpv6.MessageFromBytes(a.Message)
		require.NoError(t, err)
		return a, r.Options.OneIANA()
	}
	a, ia := from(1, toUs(dhcpv6.MessageTypeRequest, lease()))
	require.Equal(t, address, ia.Options.OneAddress().IPv6Addr)
	require.Equal(t, cfg.Guest, a.Given)
	a, _ = from(2, message(dhcpv6.MessageTypeSolicit, lease()))
	require.Equal(t, dhcp6.Answer{Ask: cfg.Guest}, a, "is the first host still there?")
	a, ia = from(2, toUs(dhcpv6.MessageTypeRequest, lease()))
	second := ia.Options.OneAddress()
	require.Equal(t, net.ParseIP("fd00:10:0:2::1:0"), second.IPv6Addr)
	require.Equal(t, pool.PoolTime, second.ValidLifetime)
	require.Less(t, ia.T2, second.PreferredLifetime)
	require.Equal(t, netip.MustParseAddr("fd00:10:0:2::1:0"), a.Given)

	from(3, message(dhcpv6.MessageTypeSolicit, lease())) // asks again
	_, ia = from(3, message(dhcpv6.MessageTypeSolicit, lease()))
	require.Equal(t, iana.StatusNoAddrsAvail, ia.Options.Status().StatusCode)
	from(2, toUs(dhcpv6.MessageTypeRelease, lease(second.IPv6Addr)))
	_, ia = from(3, toUs(dhcpv6.MessageTypeRequest, lease()))
	require.Equal(t, second.IPv6Addr, ia.Options.OneAddress().IPv6Addr)
	a, _ = from(3, toUs(dhcpv6.MessageTypeDecline, lease(second.IPv6Addr)))
	require.Equal(t, netip.MustParseAddr("fd00:10:0:2::1:0"), a.Declined)
	_, ia = from(3, message(dhcpv6.MessageTypeSolicit, lease()))
	require.Equal(t, iana.StatusNoAddrsAvail, ia.Options.Status().StatusCode)
}
