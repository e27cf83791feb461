package dhcp6_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/dhcp6"
)

var (
	guestMAC  = net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	serverID  = &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: net.HardwareAddr{0x52, 0x55, 10, 0, 2, 2}}
	anotherID = &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
	address   = net.ParseIP("fd00:10:0:2::15")
	foreign   = net.ParseIP("2001:db8::15")
	iaid      = [4]byte{1, 2, 3, 4}
)

func newServer() *dhcp6.Server {
	return dhcp6.New(dhcp6.Config{
		MAC: [6]byte{0x52, 0x55, 10, 0, 2, 2}, Guest: netip.MustParseAddr("fd00:10:0:2::15"),
		Prefix: netip.MustParsePrefix("fd00:10:0:2::/64"), DNS: []netip.Addr{netip.MustParseAddr("fd00:10:0:2::3")},
		Search: func() []string { return []string{"lab.example.org"} },
	})
}

// message is one of the guest's, with the options that nearly all have.
func message(kind dhcpv6.MessageType, options ...dhcpv6.Option) *dhcpv6.Message {
	m := &dhcpv6.Message{MessageType: kind, TransactionID: dhcpv6.TransactionID{7, 8, 9}}
	m.AddOption(dhcpv6.OptClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: guestMAC}))
	for _, o := range options {
		m.AddOption(o)
	}
	return m
}

// toUs is message for the server.
func toUs(kind dhcpv6.MessageType, options ...dhcpv6.Option) *dhcpv6.Message {
	return message(kind, append(options, dhcpv6.OptServerID(serverID))...)
}

// lease asks for an address, and names those that the guest has.
func lease(addrs ...net.IP) *dhcpv6.OptIANA {
	o := &dhcpv6.OptIANA{IaId: iaid}
	for _, a := range addrs {
		o.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a})
	}
	return o
}

// answer returns the server's, which must be well-formed.
func answer(t *testing.T, m *dhcpv6.Message) *dhcpv6.Message {
	t.Helper()
	a, ok := newServer().Answer(0, [6]byte(guestMAC), m.ToBytes())
	require.True(t, ok)
	require.NotNil(t, a.Message)
	r, err := dhcpv6.MessageFromBytes(a.Message)
	require.NoError(t, err)
	require.Equal(t, m.TransactionID, r.TransactionID)
	require.Equal(t, m.Options.ClientID(), r.Options.ClientID())
	require.Equal(t, dhcpv6.DUID(serverID), r.Options.ServerID())
	require.Equal(t, []net.IP{net.ParseIP("fd00:10:0:2::3")}, r.Options.DNS())
	require.Equal(t, []string{"lab.example.org"}, r.Options.DomainSearchList().Labels)
	return r
}

func requireLease(t *testing.T, r *dhcpv6.Message) {
	t.Helper()
	given := r.Options.OneIANA()
	require.Equal(t, iaid, given.IaId)
	require.Less(t, time.Duration(0), given.T1)
	require.Less(t, given.T1, given.T2)
	a := given.Options.OneAddress()
	require.Equal(t, address, a.IPv6Addr)
	require.Less(t, given.T2, a.PreferredLifetime)
	require.Less(t, a.PreferredLifetime, a.ValidLifetime)
}

func TestTheGuestGetsItsAddress(t *testing.T) {
	for name, c := range map[string]struct {
		ask  *dhcpv6.Message
		want dhcpv6.MessageType
	}{
		"solicit": {message(dhcpv6.MessageTypeSolicit, lease()), dhcpv6.MessageTypeAdvertise},
		"solicit, at once": {
			message(dhcpv6.MessageTypeSolicit, lease(), &dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit}), dhcpv6.MessageTypeReply,
		},
		"request": {toUs(dhcpv6.MessageTypeRequest, lease(address)), dhcpv6.MessageTypeReply},
		"renew":   {toUs(dhcpv6.MessageTypeRenew, lease(address)), dhcpv6.MessageTypeReply},
		"rebind":  {message(dhcpv6.MessageTypeRebind, lease(address)), dhcpv6.MessageTypeReply},
	} {
		t.Run(name, func(t *testing.T) {
			r := answer(t, c.ask)
			require.Equal(t, c.want, r.MessageType)
			requireLease(t, r)
			_, rapid := r.GetOneOption(dhcpv6.OptionRapidCommit).(*dhcpv6.OptionGeneric)
			require.Equal(t, name == "solicit, at once", rapid)
		})
	}
}

func TestAddressesOfBeforeAreWithdrawn(t *testing.T) {
	r := answer(t, toUs(dhcpv6.MessageTypeRenew, lease(foreign, address)))
	requireLease(t, r)
	addrs := r.Options.OneIANA().Options.Addresses()
	require.Len(t, addrs, 2)
	require.Equal(t, foreign, addrs[1].IPv6Addr)
	require.Zero(t, addrs[1].ValidLifetime)
}

func TestThereIsOneAddressAndNothingElse(t *testing.T) {
	second := lease()
	second.IaId = [4]byte{9}
	r := answer(t, message(dhcpv6.MessageTypeSolicit, lease(), second, &dhcpv6.OptIATA{IaId: iaid}, &dhcpv6.OptIAPD{IaId: iaid}))
	requireLease(t, r)
	require.Equal(t, iana.StatusNoAddrsAvail, r.Options.IANA()[1].Options.Status().StatusCode)
	require.Equal(t, iana.StatusNoAddrsAvail, r.Options.OneIATA().Options.Status().StatusCode)
	require.Equal(t, iana.StatusNoPrefixAvail, r.Options.OneIAPD().Options.Status().StatusCode)
}

func TestTheGuestLearnsWhetherItsAddressIsGoodHere(t *testing.T) {
	status := func(addrs ...net.IP) iana.StatusCode {
		return answer(t, message(dhcpv6.MessageTypeConfirm, lease(addrs...))).Options.Status().StatusCode
	}
	require.Equal(t, iana.StatusSuccess, status(address))
	require.Equal(t, iana.StatusNotOnLink, status(foreign))
	require.Equal(t, iana.StatusNotOnLink, status(address, foreign))
	a, ok := newServer().Answer(0, [6]byte(guestMAC), message(dhcpv6.MessageTypeConfirm, lease()).ToBytes())
	require.True(t, ok)
	require.Nil(t, a.Message, "of none there is nothing to say (RFC 8415 section 18.3.3)")
}

func TestWhatIsGivenBackIsConfirmed(t *testing.T) {
	for _, kind := range []dhcpv6.MessageType{dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline} {
		require.Equal(t, iana.StatusSuccess, answer(t, toUs(kind, lease(address))).Options.Status().StatusCode)
	}
}

func TestNamesAreToldWithoutAnAddress(t *testing.T) {
	r := answer(t, message(dhcpv6.MessageTypeInformationRequest))
	require.Equal(t, dhcpv6.MessageTypeReply, r.MessageType)
	require.Nil(t, r.Options.OneIANA())
}

func TestWhatIsForAnotherServerIsNotAnswered(t *testing.T) {
	for _, kind := range []dhcpv6.MessageType{
		dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline,
		dhcpv6.MessageTypeInformationRequest,
	} {
		a, ok := newServer().Answer(0, [6]byte(guestMAC), message(kind, lease(), dhcpv6.OptServerID(anotherID)).ToBytes())
		require.True(t, ok, kind)
		require.Nil(t, a.Message, kind)
	}
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	solicit := message(dhcpv6.MessageTypeSolicit, lease())
	anonymous := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeSolicit}
	for name, b := range map[string][]byte{
		"nothing":                  {},
		"half a header":            {1, 2, 3},
		"half an option":           solicit.ToBytes()[:len(solicit.ToBytes())-3],
		"no client":                anonymous.ToBytes(),
		"a solicit to a server":    toUs(dhcpv6.MessageTypeSolicit, lease()).ToBytes(),
		"a rebind to a server":     toUs(dhcpv6.MessageTypeRebind, lease()).ToBytes(),
		"a request to nobody":      message(dhcpv6.MessageTypeRequest, lease()).ToBytes(),
		"a server's own":           toUs(dhcpv6.MessageTypeAdvertise).ToBytes(),
		"a relay's":                append([]byte{12}, make([]byte, 40)...),
		"a kind that nobody knows": message(200).ToBytes(),
	} {
		t.Run(name, func(t *testing.T) {
			answer, ok := newServer().Answer(0, [6]byte(guestMAC), b)
			require.False(t, ok)
			require.Nil(t, answer.Message)
		})
	}
}
