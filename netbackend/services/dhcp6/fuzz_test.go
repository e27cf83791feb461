package dhcp6_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/dhcp6"
	pool "github.com/vringnet/vring/netbackend/services/lease"
)

// FuzzAnswer gives a server two messages, so many seconds apart, of one host or of two.
func FuzzAnswer(f *testing.F) {
	take := toUs(dhcpv6.MessageTypeRequest, lease())
	many := message(dhcpv6.MessageTypeSolicit)
	for range 100 {
		many.AddOption(lease(foreign, address))
	}
	boot := message(dhcpv6.MessageTypeInformationRequest, dhcpv6.OptClientArchType(iana.EFI_X86_64_HTTP),
		&dhcpv6.OptVendorClass{EnterpriseNumber: 343, Data: [][]byte{[]byte("HTTPClient:Arch:00016")}})
	for _, m := range []*dhcpv6.Message{
		message(dhcpv6.MessageTypeSolicit, lease(), &dhcpv6.OptIATA{IaId: iaid}, &dhcpv6.OptIAPD{IaId: iaid}), many, boot, take,
		message(dhcpv6.MessageTypeSolicit, lease(), &dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit}),
		message(dhcpv6.MessageTypeInformationRequest, &dhcpv6.OptUserClass{UserClasses: [][]byte{[]byte("iPXE")}}),
		toUs(dhcpv6.MessageTypeRenew, lease(foreign, address)), message(dhcpv6.MessageTypeRebind, lease(address)),
		message(dhcpv6.MessageTypeConfirm, lease(address)), toUs(dhcpv6.MessageTypeRelease, lease(address)), toUs(dhcpv6.MessageTypeDecline, lease(address)),
	} {
		f.Add(m.ToBytes(), m.ToBytes(), uint16(1), true)
		f.Add(take.ToBytes(), m.ToBytes(), uint16(60), false)
	}
	cfg := full(f, "21=text:sip", "31=")
	f.Fuzz(func(t *testing.T, first, second []byte, wait uint16, same bool) {
		now, mac := int64(time.Hour), [6]byte(guestMAC)
		cfg.Book = pool.New(pool.Config{
			Primary: cfg.Guest, First: netip.MustParseAddr("fd00:10:0:2::1:0"), Count: 2,
			User:  func(netip.Addr) (mac [6]byte) { return mac },
			Heard: func([6]byte) int64 { return now },
		})
		s := dhcp6.New(cfg)
		for _, b := range [][]byte{first, second} {
			checkAnswer(t, s, now, mac, b)
			now += int64(wait) * int64(time.Second)
			if !same {
				mac[5]++
			}
		}
	})
}

// checkAnswer checks what the server makes of b.
func checkAnswer(t *testing.T, s *dhcp6.Server, now int64, mac [6]byte, b []byte) {
	before := slices.Clone(b)
	answer, ok := s.Answer(now, mac, b)
	require.Equal(t, before, b)
	if answer.Message == nil {
		require.False(t, answer.Given.IsValid(), "nobody is given an address without a word")
		return
	}
	require.True(t, ok)
	require.LessOrEqual(t, len(answer.Message), 1232, "an answer passes every link")
	r, err := dhcpv6.MessageFromBytes(answer.Message)
	require.NoError(t, err)
	require.Equal(t, b[1:4], r.TransactionID[:])
	if answer.Given.IsValid() {
		require.Equal(t, answer.Given.AsSlice(), []byte(r.Options.OneIANA().Options.OneAddress().IPv6Addr))
	}
}
