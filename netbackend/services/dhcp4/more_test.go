package dhcp4_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/dhcp4"
	"github.com/vringnet/vring/netbackend/services/hostconf"
	"github.com/vringnet/vring/netbackend/services/lease"
)

// full is a network whose hosts are told all there is.
func full(t testing.TB) dhcp4.Config {
	cfg := config()
	cfg.Search = func() []string { return []string{"eng.apple.com", "marketing.apple.com"} }
	route, err := hostconf.ParseRoute("192.168.7.0/24=10.0.2.50")
	require.NoError(t, err)
	cfg.More = hostconf.Config{
		NTP: []netip.Addr{netip.MustParseAddr("192.0.2.123"), netip.MustParseAddr("2001:db8::123")}, Routes: []hostconf.Route{route},
		BootServers: []netip.Addr{netip.MustParseAddr("192.0.2.69")},
	}
	for _, text := range []string{"ipxe=http://10.0.2.2:8000/x.ipxe", "http-x64=http://10.0.2.2:8000/boot.efi", "undionly.kpxe"} {
		f, err := hostconf.ParseBootFile(text)
		require.NoError(t, err)
		cfg.More.BootFiles = append(cfg.More.BootFiles, f)
	}
	for _, text := range []string{"44=192.0.2.44", "15=told.example", "28="} {
		o, err := hostconf.ParseOption(text)
		require.NoError(t, err)
		cfg.More.Options = append(cfg.More.Options, o)
	}
	return cfg
}

// allowed is that the client takes long messages, as most do.
var allowed = dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(1500))

func TestHostsAreToldWhatTheConfigurationSays(t *testing.T) {
	for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeInform} {
		a, _ := ask(t, server(t, full(t)), request(kind, allowed))
		value := func(code uint8) string { return string(a.Options[code]) }
		require.Equal(t, "\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04", value(119))
		require.Equal(t, "\x18\xc0\xa8\x07\x0a\x00\x02\x32\x00\x0a\x00\x02\x02", value(121))
		require.Equal(t, "\xc0\x00\x02\x7b", value(42))
		require.Equal(t, "undionly.kpxe", value(67))
		require.Equal(t, "undionly.kpxe", a.BootFileName)
		require.Equal(t, "192.0.2.69", value(66))
		require.Equal(t, "\xc0\x00\x02\x45", value(150))
		require.Equal(t, net.IP{192, 0, 2, 69}, a.ServerIPAddr.To4())
		require.Equal(t, "\xc0\x00\x02\x2c", value(44))
		require.Equal(t, "told.example", value(15), "an option by its number is of more weight than what vring says by itself")
		require.NotContains(t, a.Options, uint8(28), "and leaves out what it has no value for")
	}
}

func TestARefusalTellsNothing(t *testing.T) {
	nak, _ := ask(t, server(t, full(t)), request(dhcpv4.MessageTypeRequest, requested(foreignIP), allowed))
	require.Equal(t, dhcpv4.MessageTypeNak, nak.MessageType())
	for _, code := range []uint8{15, 42, 44, 66, 67, 119, 121, 150} {
		require.NotContains(t, nak.Options, code)
	}
	require.Empty(t, nak.BootFileName)
}

// What iPXE and OVMF say of themselves, as their packets have it.
func TestAClientIsToldOfTheFileThatItCanBoot(t *testing.T) {
	s := server(t, full(t))
	class := func(text string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptClassIdentifier(text)) }
	arch := func(a iana.Arch) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptClientArch(a)) }
	user := dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, []byte("iPXE"))

	ipxe, _ := ask(t, s, request(dhcpv4.MessageTypeDiscover, allowed, user, class("PXEClient:Arch:00000:UNDI:002001"), arch(iana.INTEL_X86PC)))
	require.Equal(t, "http://10.0.2.2:8000/x.ipxe", ipxe.BootFileNameOption())
	require.False(t, ipxe.Options.Has(dhcpv4.OptionClassIdentifier))

	http, _ := ask(t, s, request(dhcpv4.MessageTypeDiscover, allowed, class("HTTPClient:Arch:00016:UNDI:003001"), arch(iana.EFI_X86_64_HTTP)))
	require.Equal(t, "http://10.0.2.2:8000/boot.efi", http.BootFileNameOption())
	require.Equal(t, "HTTPClient", http.ClassIdentifier(), "without it UEFI does not take the offer")

	pxe, _ := ask(t, s, request(dhcpv4.MessageTypeDiscover, allowed, class("PXEClient:Arch:00007:UNDI:003001"), arch(iana.EFI_BC)))
	require.Equal(t, "undionly.kpxe", pxe.BootFileNameOption())

	broken, _ := ask(t, s, request(dhcpv4.MessageTypeDiscover, allowed, dhcpv4.WithGeneric(dhcpv4.OptionClientSystemArchitectureType, []byte{0})))
	require.Equal(t, "undionly.kpxe", broken.BootFileNameOption())
}

func TestALongBootFileNameIsToldByItsOptionOnly(t *testing.T) {
	cfg := full(t)
	name := "http://10.0.2.2:8000/" + strings.Repeat("x", 200)
	cfg.More.BootFiles = []hostconf.BootFile{{Name: name}}
	a, _ := ask(t, server(t, cfg), request(dhcpv4.MessageTypeDiscover, allowed))
	require.Equal(t, name, a.BootFileNameOption())
	require.Empty(t, a.BootFileName)
}

// A client without room for all keeps what it asked for, and always what it cannot be without.
func TestWhatAClientDidNotAskForGoesFirst(t *testing.T) {
	cfg := full(t)
	o, err := hostconf.ParseOption("224=" + strings.Repeat("x", 400))
	require.NoError(t, err)
	cfg.More.Options = append(cfg.More.Options, o)
	list := dhcpv4.WithRequestedOptions(dhcpv4.OptionDomainNameServer, dhcpv4.GenericOptionCode(224))
	answer, ok := server(t, cfg).Answer(0, request(dhcpv4.MessageTypeDiscover, list).ToBytes())
	require.True(t, ok)
	require.LessOrEqual(t, len(answer.Message), 548)
	a, err := dhcpv4.FromBytes(answer.Message)
	require.NoError(t, err)
	require.Len(t, a.Options[224], 0, "400 bytes leave no room for what a guest needs")
	require.NotEmpty(t, a.DNS())
	require.NotEmpty(t, a.Router())

	cfg.More.Options[len(cfg.More.Options)-1].Value = []byte(strings.Repeat("x", 220))
	answer, _ = server(t, cfg).Answer(0, request(dhcpv4.MessageTypeDiscover, list).ToBytes())
	a, err = dhcpv4.FromBytes(answer.Message)
	require.NoError(t, err)
	require.Len(t, a.Options[224], 220)
	require.NotContains(t, a.Options, uint8(119))
}

// book is one of a network with two addresses in its pool, whose hosts always answer.
func book(now *int64, fixed map[[6]byte]netip.Addr) *lease.Book {
	return lease.New(lease.Config{
		Primary: netip.MustParseAddr("10.0.2.15"), First: netip.MustParseAddr("10.0.2.253"), Count: 2, Fixed: fixed,
		User:  func(netip.Addr) (mac [6]byte) { return mac },
		Heard: func([6]byte) int64 { return *now },
	})
}

func TestEachHostGetsAnAddressOfItsOwn(t *testing.T) {
	now := int64(1e9)
	cfg := config()
	cfg.Book = book(&now, map[[6]byte]netip.Addr{{2, 0, 0, 0, 0, 5}: netip.MustParseAddr("10.0.2.50")})
	s := server(t, cfg)
	from := func(n byte, kind dhcpv4.MessageType, options ...dhcpv4.Modifier) (*dhcpv4.DHCPv4, dhcp4.Answer) {
		now += 1e8
		m := request(kind, append(options, dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, n}))...)
		answer, _ := s.Answer(now, m.ToBytes())
		if answer.Message == nil {
			return nil, answer
		}
		a, err := dhcpv4.FromBytes(answer.Message)
		require.NoError(t, err)
		return a, answer
	}
	first, _ := from(1, dhcpv4.MessageTypeDiscover)
	require.Equal(t, guestIP, first.YourIPAddr.To4())
	require.Equal(t, "guest", first.HostName())
	ack, answer := from(1, dhcpv4.MessageTypeRequest, requested(guestIP), identifier(serverIP))
	require.Equal(t, dhcpv4.MessageTypeAck, ack.MessageType())
	require.Equal(t, netip.MustParseAddr("10.0.2.15"), answer.Given)

	_, answer = from(2, dhcpv4.MessageTypeDiscover)
	require.Equal(t, dhcp4.Answer{Ask: netip.MustParseAddr("10.0.2.15")}, answer, "is the first host still there?")
	second, answer := from(2, dhcpv4.MessageTypeDiscover)
	require.False(t, answer.Given.IsValid())
	require.GreaterOrEqual(t, second.YourIPAddr.To4()[3], byte(253))
	require.Empty(t, second.HostName(), "the name is the first host's")
	require.Equal(t, lease.PoolTime, second.IPAddressLeaseTime(0))

	nak, _ := from(2, dhcpv4.MessageTypeRequest, requested(guestIP))
	require.Equal(t, dhcpv4.MessageTypeNak, nak.MessageType())
	ack, _ = from(2, dhcpv4.MessageTypeRequest, requested(second.YourIPAddr), identifier(serverIP))
	require.Equal(t, dhcpv4.MessageTypeAck, ack.MessageType())
	ack, _ = from(2, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(second.YourIPAddr))
	require.Equal(t, dhcpv4.MessageTypeAck, ack.MessageType())

	fixed, _ := from(5, dhcpv4.MessageTypeDiscover)
	require.Equal(t, net.IP{10, 0, 2, 50}, fixed.YourIPAddr.To4())
	from(3, dhcpv4.MessageTypeDiscover) // asks again
	third, _ := from(3, dhcpv4.MessageTypeDiscover)
	require.NotEqual(t, second.YourIPAddr, third.YourIPAddr)
	from(4, dhcpv4.MessageTypeDiscover)
	none, _ := from(4, dhcpv4.MessageTypeDiscover)
	require.Nil(t, none, "there are no more")

	_, answer = from(3, dhcpv4.MessageTypeDecline, requested(third.YourIPAddr), identifier(serverIP))
	require.True(t, answer.Declined.IsValid())
	none, _ = from(3, dhcpv4.MessageTypeDiscover)
	require.Nil(t, none)
	from(2, dhcpv4.MessageTypeRelease, dhcpv4.WithClientIP(second.YourIPAddr), identifier(serverIP))
	third, _ = from(3, dhcpv4.MessageTypeDiscover)
	require.Equal(t, second.YourIPAddr, third.YourIPAddr)
}

func TestABootpClientGetsNoAddressThatEnds(t *testing.T) {
	now := int64(1e9)
	cfg := config()
	cfg.Book = book(&now, nil)
	s := server(t, cfg)
	_, ok := s.Answer(now, request(dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 1})).ToBytes())
	require.True(t, ok)
	bootp := request(dhcpv4.MessageTypeNone)
	bootp.Options = dhcpv4.Options{}
	for range 2 {
		now += 1e8
		answer, _ := s.Answer(now, bootp.ToBytes())
		require.Nil(t, answer.Message)
	}
}

func TestTheNameOfAClientIsRemembered(t *testing.T) {
	now := int64(3600e9)
	cfg := config()
	cfg.Book = book(&now, nil)
	s := server(t, cfg)
	a, _ := ask(t, s, request(dhcpv4.MessageTypeDiscover, dhcpv4.WithOption(dhcpv4.OptHostName("web"))))
	require.Empty(t, cfg.Book.Leases(now)[0].Name, "nothing is its own yet")
	ask(t, s, request(dhcpv4.MessageTypeRequest, requested(a.YourIPAddr), identifier(serverIP), dhcpv4.WithOption(dhcpv4.OptHostName("web"))))
	require.Equal(t, []lease.Lease{{Addr: cfg.Guest, MAC: [6]byte(mac), Name: "web"}}, cfg.Book.Leases(now))
}
