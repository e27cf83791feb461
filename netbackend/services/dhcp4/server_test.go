package dhcp4_test

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/dhcp4"
)

var (
	mac       = net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	everyone  = dhcp4.Destination{IP: netip.MustParseAddr("255.255.255.255"), MAC: [6]byte{255, 255, 255, 255, 255, 255}}
	theGuest  = dhcp4.Destination{IP: netip.MustParseAddr("10.0.2.15"), MAC: [6]byte(mac)}
	serverIP  = net.IP{10, 0, 2, 2}
	guestIP   = net.IP{10, 0, 2, 15}
	foreignIP = net.IP{192, 168, 1, 7}
)

// config is the default network.
func config() dhcp4.Config {
	return dhcp4.Config{
		Guest:    netip.MustParseAddr("10.0.2.15"),
		Server:   netip.MustParseAddr("10.0.2.2"),
		Prefix:   netip.MustParsePrefix("10.0.2.0/24"),
		Router:   netip.MustParseAddr("10.0.2.2"),
		DNS:      []netip.Addr{netip.MustParseAddr("10.0.2.3"), netip.MustParseAddr("10.0.2.4")},
		MTU:      9000,
		Hostname: "guest",
		Domain:   "lab.example",
	}
}

func server(t testing.TB, cfg dhcp4.Config) *dhcp4.Server {
	s, err := dhcp4.New(cfg)
	require.NoError(t, err)
	return s
}

// request builds a message as the guest's client sends it.
func request(kind dhcpv4.MessageType, options ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(kind)}, options...)...)
	if err != nil {
		panic(err)
	}
	return m
}

func requested(ip net.IP) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ip))
}

func identifier(ip net.IP) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ip))
}

// ask returns the parsed answer to m.
func ask(t *testing.T, s *dhcp4.Server, m *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, dhcp4.Destination) {
	answer, ok := s.Answer(0, m.ToBytes())
	require.True(t, ok, "an answer is due")
	a, err := dhcpv4.FromBytes(answer.Message)
	require.NoError(t, err)
	require.Equal(t, dhcpv4.OpcodeBootReply, a.OpCode)
	require.Equal(t, m.TransactionID, a.TransactionID)
	require.Equal(t, mac, a.ClientHWAddr)
	return a, answer.To
}

func TestFourWayHandshake(t *testing.T) {
	s := server(t, config())

	offer, to := ask(t, s, request(dhcpv4.MessageTypeDiscover))
	require.Equal(t, dhcpv4.MessageTypeOffer, offer.MessageType())
	require.Equal(t, theGuest, to)
	require.True(t, offer.YourIPAddr.Equal(guestIP))
	require.True(t, offer.ServerIdentifier().Equal(serverIP))

	ack, to := ask(t, s, request(dhcpv4.MessageTypeRequest, requested(offer.YourIPAddr), identifier(serverIP)))
	require.Equal(t, dhcpv4.MessageTypeAck, ack.MessageType())
	require.Equal(t, theGuest, to)
	require.True(t, ack.YourIPAddr.Equal(guestIP))
	require.Equal(t, net.CIDRMask(24, 32), ack.SubnetMask())
	require.True(t, ack.BroadcastAddress().Equal(net.IP{10, 0, 2, 255}))
	require.True(t, ack.Router()[0].Equal(serverIP))
	require.Len(t, ack.DNS(), 2)
	require.Equal(t, []byte{0x23, 0x28}, ack.Options.Get(dhcpv4.OptionInterfaceMTU))
	require.Equal(t, "guest", ack.HostName())
	require.Equal(t, "lab.example", ack.DomainName())
	require.Equal(t, []byte{255, 255, 255, 255}, ack.Options.Get(dhcpv4.OptionIPAddressLeaseTime), "for ever")
}

func TestAnswers(t *testing.T) {
	const ack, nak, offer = dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak, dhcpv4.MessageTypeOffer
	const ask4, discover = dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeDiscover
	broadcast := dhcpv4.WithBroadcast(true)
	cases := []struct {
		name    string
		request *dhcpv4.DHCPv4
		want    dhcpv4.MessageType
		to      dhcp4.Destination
	}{
		{"discover that cannot take unicast", request(discover, broadcast), offer, everyone},
		{"discover that wants another address", request(discover, requested(foreignIP)), offer, theGuest},
		{"rapid commit", request(discover, dhcpv4.WithGeneric(dhcpv4.OptionRapidCommit, nil)), ack, theGuest},
		{"reboot with its address", request(ask4, requested(guestIP)), ack, theGuest},
		{"reboot with a foreign address", request(ask4, requested(foreignIP)), nak, everyone},
		{"select a foreign address", request(ask4, requested(foreignIP), identifier(serverIP)), nak, everyone},
		{"renew", request(ask4, dhcpv4.WithClientIP(guestIP)), ack, theGuest},
		{"renew, though broadcast is asked for", request(ask4, dhcpv4.WithClientIP(guestIP), broadcast), ack, theGuest},
		{"renew a foreign address", request(ask4, dhcpv4.WithClientIP(foreignIP)), nak, everyone},
		{"request for nothing", request(ask4), nak, everyone},
		{"requested address of a wrong length", request(ask4, dhcpv4.WithGeneric(dhcpv4.OptionRequestedIPAddress, []byte{10, 0})), nak, everyone},
		{"inform", request(dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(guestIP)), ack, theGuest},
		{"inform without an address", request(dhcpv4.MessageTypeInform), ack, everyone},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a, to := ask(t, server(t, config()), c.request)
			require.Equal(t, c.want, a.MessageType())
			require.Equal(t, c.to, to)
			require.True(t, a.ServerIdentifier().Equal(serverIP))
			require.Equal(t, c.request.Options.Has(dhcpv4.OptionRapidCommit), a.Options.Has(dhcpv4.OptionRapidCommit))
		})
	}
}

func TestRefusalAndInformGiveNoLease(t *testing.T) {
	s := server(t, config())

	nak, _ := ask(t, s, request(dhcpv4.MessageTypeRequest, requested(foreignIP)))
	require.True(t, nak.YourIPAddr.IsUnspecified())
	require.Nil(t, nak.Router())

	inform, _ := ask(t, s, request(dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(guestIP)))
	require.True(t, inform.YourIPAddr.IsUnspecified())
	require.False(t, inform.Options.Has(dhcpv4.OptionIPAddressLeaseTime))
	require.NotEmpty(t, inform.Router())
}

func TestLeaseTime(t *testing.T) {
	cfg := config()
	cfg.LeaseTime = time.Hour
	offer, _ := ask(t, server(t, cfg), request(dhcpv4.MessageTypeDiscover))
	require.Equal(t, time.Hour, offer.IPAddressLeaseTime(0))

	cfg.LeaseTime = 200 * 365 * 24 * time.Hour // more than fits
	offer, _ = ask(t, server(t, cfg), request(dhcpv4.MessageTypeDiscover))
	require.Equal(t, []byte{255, 255, 255, 255}, offer.Options.Get(dhcpv4.OptionIPAddressLeaseTime))
}

func TestLeavesOutWhatIsNotConfigured(t *testing.T) {
	cfg := config()
	cfg.Router, cfg.DNS, cfg.MTU, cfg.Hostname, cfg.Domain = netip.Addr{}, nil, 0, "", ""
	offer, _ := ask(t, server(t, cfg), request(dhcpv4.MessageTypeDiscover))
	for _, code := range []dhcpv4.OptionCode{
		dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionInterfaceMTU,
		dhcpv4.OptionHostName, dhcpv4.OptionDomainName,
	} {
		require.False(t, offer.Options.Has(code), "%v", code)
	}
}

func TestReturnsTheClientIdentifier(t *testing.T) {
	id := []byte{255, 1, 2, 3, 4}
	a, _ := ask(t, server(t, config()), request(dhcpv4.MessageTypeDiscover, dhcpv4.WithOption(dhcpv4.OptClientIdentifier(id))))
	require.Equal(t, id, a.Options.Get(dhcpv4.OptionClientIdentifier))
}

func TestBootpClientGetsItsAddress(t *testing.T) {
	bootp := request(dhcpv4.MessageTypeNone)
	bootp.Options = dhcpv4.Options{}
	cases := map[string][]byte{
		"with a cookie":          bootp.ToBytes(),
		"without a cookie":       append(bootp.ToBytes()[:236], make([]byte, 64)...),
		"without a vendor area":  bootp.ToBytes()[:236],
		"with a vendor's cookie": append(bootp.ToBytes()[:236], "VEND----------------------------------------"...),
	}
	for name, b := range cases {
		t.Run(name, func(t *testing.T) {
			answer, ok := server(t, config()).Answer(0, b)
			require.True(t, ok)
			require.Equal(t, theGuest, answer.To)
			require.Len(t, answer.Message, 300, "the message of BOOTP has a fixed length")
			a, err := dhcpv4.FromBytes(answer.Message)
			require.NoError(t, err)
			require.True(t, a.YourIPAddr.Equal(guestIP))
			require.Equal(t, net.CIDRMask(24, 32), a.SubnetMask())
			require.False(t, a.Options.Has(dhcpv4.OptionDHCPMessageType))
			require.False(t, a.Options.Has(dhcpv4.OptionIPAddressLeaseTime))
		})
	}
}

func TestSaysNothing(t *testing.T) {
	change := func(f func(m *dhcpv4.DHCPv4)) []byte {
		m := request(dhcpv4.MessageTypeDiscover)
		f(m)
		return m.ToBytes()
	}
	// A hardware address of all zeros or with the group bit set is nobody's.
	cases := map[string][]byte{
		"release":                 request(dhcpv4.MessageTypeRelease, dhcpv4.WithClientIP(guestIP), identifier(serverIP)).ToBytes(),
		"decline":                 request(dhcpv4.MessageTypeDecline, requested(guestIP), identifier(serverIP)).ToBytes(),
		"request to other server": request(dhcpv4.MessageTypeRequest, requested(foreignIP), identifier(foreignIP)).ToBytes(),
		"server's message":        request(dhcpv4.MessageTypeOffer).ToBytes(),
		"unknown type":            request(dhcpv4.MessageType(99)).ToBytes(),
		"empty type":              change(func(m *dhcpv4.DHCPv4) { m.Options[53] = nil }),
		"empty server identifier": change(func(m *dhcpv4.DHCPv4) { m.Options[54] = []byte{} }),
		"reply":                   change(func(m *dhcpv4.DHCPv4) { m.OpCode = dhcpv4.OpcodeBootReply }),
		"relayed":                 change(func(m *dhcpv4.DHCPv4) { m.GatewayIPAddr = foreignIP }),
		"not Ethernet":            change(func(m *dhcpv4.DHCPv4) { m.HWType = 32 }),
		"hardware address length": change(func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = mac[:5] }),
		"group hardware address":  change(func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = net.HardwareAddr{1, 0, 0, 0, 0, 1} }),
		"zero hardware address":   change(func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = make(net.HardwareAddr, 6) }),
	}
	for name, b := range cases {
		t.Run(name, func(t *testing.T) {
			_, ok := server(t, config()).Answer(0, b)
			require.False(t, ok)
		})
	}
}

func TestSurvivesEveryTruncation(t *testing.T) {
	whole := request(dhcpv4.MessageTypeRequest, requested(guestIP), identifier(serverIP)).ToBytes()
	s := server(t, config())
	for n := range whole {
		answer, ok := s.Answer(0, whole[:n:n])
		require.Equal(t, ok, answer.Message != nil)
		require.False(t, ok && n < 236, "%d bytes", n)
	}
}

// Each of these ended or corrupted another engine's process.
func TestMalformedOptions(t *testing.T) {
	header := request(dhcpv4.MessageTypeDiscover).ToBytes()[:240]
	options := func(b ...byte) []byte { return append(bytes.Clone(header), b...) }
	cases := []struct {
		name  string
		b     []byte
		valid bool
	}{
		{"length past the end (CVE-2017-11434)", options(53, 1, 1, 12, 200, 'x'), false},
		{"code without a length", options(53, 1, 1, 12), false},
		{"end followed by a length", options(53, 1, 1, 255, 200), true},
		{"end first", options(255, 53, 1, 1), true},
		{"padding in the middle", options(0, 0, 53, 1, 1, 0, 0, 0, 50, 4, 10, 0, 2, 15, 0, 255), true},
		{"no end", options(53, 1, 1), true},
		{"the same option often", options(bytes.Repeat([]byte{53, 1, 1}, 300)...), false},
		{"a host name of 4 KiB", options(append([]byte{53, 1, 1}, bytes.Repeat([]byte{12, 2, 'a', 0}, 2048)...)...), true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			answer, ok := server(t, config()).Answer(0, c.b)
			require.Equal(t, c.valid, ok)
			require.LessOrEqual(t, len(answer.Message), 548)
		})
	}
}

// An answer is never longer than the client takes, whatever was configured or is to be returned (slirp overran here).
func TestAnswerFitsTheClient(t *testing.T) {
	cfg := config()
	cfg.Hostname = strings.Repeat("h", 63)
	cfg.Domain = strings.TrimSuffix(strings.Repeat(strings.Repeat("d", 61)+".", 4), ".")
	for range 14 {
		cfg.DNS = append(cfg.DNS, cfg.DNS[0])
	}
	id := dhcpv4.WithOption(dhcpv4.OptClientIdentifier(bytes.Repeat([]byte{1}, 250)))
	for _, size := range []uint16{0, 400, 576, 700, 1000, 1500, 65535} {
		limit := dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(size))
		answer, ok := server(t, cfg).Answer(0, request(dhcpv4.MessageTypeDiscover, id, limit).ToBytes())
		require.True(t, ok)
		require.LessOrEqual(t, len(answer.Message)+28, max(576, int(size)))
		a, err := dhcpv4.FromBytes(answer.Message)
		require.NoError(t, err)
		require.NotEmpty(t, a.Router(), "the router is never left out")
	}
}

func TestAnswersDoNotShareMemory(t *testing.T) {
	s := server(t, config())
	first, _ := s.Answer(0, request(dhcpv4.MessageTypeDiscover).ToBytes())
	clear(first.Message)
	a, _ := ask(t, s, request(dhcpv4.MessageTypeDiscover))
	require.Equal(t, "guest", a.HostName())
}

func TestConfigIsChecked(t *testing.T) {
	cases := map[string]func(c *dhcp4.Config){
		"guest address ::1":      func(c *dhcp4.Config) { c.Guest = netip.IPv6Loopback() },
		"server address fd00::1": func(c *dhcp4.Config) { c.Server = netip.MustParseAddr("fd00::1") },
		"same address":           func(c *dhcp4.Config) { c.Server = c.Guest },
		"router fd00::1":         func(c *dhcp4.Config) { c.Router = netip.MustParseAddr("fd00::1") },
		"not an IPv4 prefix":     func(c *dhcp4.Config) { c.Prefix = netip.MustParsePrefix("fd00::/64") },
		"name server ::1":        func(c *dhcp4.Config) { c.DNS[0] = netip.IPv6Loopback() },
		"17 name servers":        func(c *dhcp4.Config) { c.DNS = make([]netip.Addr, 17) },
		"MTU 67":                 func(c *dhcp4.Config) { c.MTU = 67 },
		"MTU 65536":              func(c *dhcp4.Config) { c.MTU = 65536 },
		"has a dot":              func(c *dhcp4.Config) { c.Hostname = "a.b" },
		"host name":              func(c *dhcp4.Config) { c.Hostname = strings.Repeat("h", 64) },
		"domain \"$(id)\"":       func(c *dhcp4.Config) { c.Domain = "$(id)" },
		"domain \"a..b\"":        func(c *dhcp4.Config) { c.Domain = "a..b" },
		"lease time":             func(c *dhcp4.Config) { c.LeaseTime = time.Millisecond },
	}
	for message, spoil := range cases {
		t.Run(message, func(t *testing.T) {
			cfg := config()
			spoil(&cfg)
			_, err := dhcp4.New(cfg)
			require.ErrorContains(t, err, message)
		})
	}
}

// A host that takes routes does not look at the option for routers, and can reach no router that is not on its link.
func TestARouterBeyondTheNetworkIsToldToBeOnTheLink(t *testing.T) {
	cfg := config()
	cfg.Router, cfg.Server = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.1")
	s, err := dhcp4.New(cfg)
	require.NoError(t, err)
	a, _ := ask(t, s, request(dhcpv4.MessageTypeDiscover))
	require.Equal(t, []byte{32, 192, 0, 2, 1, 0, 0, 0, 0, 0, 192, 0, 2, 1}, a.Options.Get(dhcpv4.OptionClasslessStaticRoute))
	require.Equal(t, []byte{192, 0, 2, 1}, a.Options.Get(dhcpv4.OptionRouter))

	s, err = dhcp4.New(config())
	require.NoError(t, err)
	a, _ = ask(t, s, request(dhcpv4.MessageTypeDiscover))
	require.False(t, a.Options.Has(dhcpv4.OptionClasslessStaticRoute))
}
