package dhcp4_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/dhcp4"
)

// FuzzAnswer gives a server two messages, so many seconds apart, which may be those of one host or of two.
func FuzzAnswer(f *testing.F) {
	discover := request(dhcpv4.MessageTypeDiscover)
	take := request(dhcpv4.MessageTypeRequest, requested(guestIP), identifier(serverIP), allowed)
	another := dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 1})
	told := func(option dhcpv4.OptionCode, value string) dhcpv4.Modifier {
		return dhcpv4.WithGeneric(option, []byte(value))
	}
	for _, m := range []*dhcpv4.DHCPv4{
		discover, take, request(dhcpv4.MessageTypeRequest, requested(foreignIP)), request(dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(guestIP)),
		request(dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(guestIP)), request(dhcpv4.MessageTypeRelease, dhcpv4.WithClientIP(guestIP), identifier(serverIP)),
		request(dhcpv4.MessageTypeDecline, requested(guestIP), identifier(serverIP)), request(dhcpv4.MessageTypeDiscover, another, told(dhcpv4.OptionRapidCommit, "")),
		request(dhcpv4.MessageTypeDiscover, told(dhcpv4.OptionUserClassInformation, "iPXE"), dhcpv4.WithRequestedOptions(
			dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName, dhcpv4.GenericOptionCode(150))),
		request(dhcpv4.MessageTypeDiscover, told(dhcpv4.OptionClassIdentifier, "HTTPClient:Arch:00016"), dhcpv4.WithOption(dhcpv4.OptClientArch(iana.EFI_X86_64_HTTP))),
		request(dhcpv4.MessageTypeDiscover, told(dhcpv4.OptionClientIdentifier, string(make([]byte, 600)))),
	} {
		f.Add(m.ToBytes(), m.ToBytes(), uint16(1))
		f.Add(take.ToBytes(), m.ToBytes(), uint16(60))
	}
	cfg := full(f)
	f.Fuzz(func(t *testing.T, first, second []byte, wait uint16) {
		now := int64(time.Hour)
		cfg.Book = book(&now, map[[6]byte]netip.Addr{{2, 0, 0, 0, 0, 5}: netip.MustParseAddr("10.0.2.50")})
		s := server(t, cfg)
		for _, b := range [][]byte{first, second} {
			checkAnswer(t, s, now, b)
			now += int64(wait) * int64(time.Second)
		}
	})
}

// checkAnswer checks what the server makes of b.
func checkAnswer(t *testing.T, s *dhcp4.Server, now int64, b []byte) {
	answer, ok := s.Answer(now, b)
	if !ok || answer.Message == nil {
		require.False(t, answer.Given.IsValid(), "nobody is given an address without a word")
		return
	}
	require.LessOrEqual(t, len(answer.Message), 1472)
	require.True(t, answer.To.IP.Is4())
	r, err := dhcpv4.FromBytes(answer.Message)
	require.NoError(t, err)
	require.Equal(t, dhcpv4.OpcodeBootReply, r.OpCode)
	require.Equal(t, b[4:8], r.TransactionID[:])
	yours, _ := netip.AddrFromSlice(r.YourIPAddr.To4())
	require.True(t, yours.IsUnspecified() || config().Prefix.Contains(yours) && yours != config().Server)
	if answer.Given.IsValid() {
		require.Equal(t, answer.Given, yours)
	}
	if !yours.IsUnspecified() {
		require.Len(t, r.SubnetMask(), 4, "no answer is so full that a host cannot use its address")
		require.NotEmpty(t, r.Router())
	}
}
