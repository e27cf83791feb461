package arp_test

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/arp"
)

var (
	gatewayMAC = [6]byte{0x52, 0x55, 10, 0, 2, 2}
	guestMAC   = [6]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	gateway    = netip.MustParseAddr("10.0.2.2")
	dns        = netip.MustParseAddr("10.0.2.3")
	guest      = netip.MustParseAddr("10.0.2.15")
)

// unhex turns a spaced hex dump into bytes.
func unhex(t testing.TB, dump string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(dump, " ", ""))
	require.NoError(t, err)
	return b
}

// whoHasGateway is the guest's request for 10.0.2.2.
const whoHasGateway = "ffffffffffff 525400123456 0806 " +
	"0001 0800 06 04 0001 525400123456 0a00020f 000000000000 0a000202"

func TestAnswersForItsAddresses(t *testing.T) {
	r := arp.New(gatewayMAC, gateway, dns)

	reply, sender, ok := r.Answer(unhex(t, whoHasGateway))
	require.True(t, ok)
	require.Equal(t, arp.Sender{MAC: guestMAC, IP: guest}, sender)
	want := "525400123456 52550a000202 0806 " +
		"0001 0800 06 04 0002 52550a000202 0a000202 525400123456 0a00020f" + strings.Repeat("00", 18)
	require.Equal(t, unhex(t, want), reply)
}

func TestAnswersAProbeWithoutLearningAnAddress(t *testing.T) {
	probe := strings.Replace(whoHasGateway, "0a00020f", "00000000", 1)

	reply, sender, ok := arp.New(gatewayMAC, gateway).Answer(unhex(t, probe))
	require.True(t, ok)
	require.NotNil(t, reply, "the gateway's address is in use, so a probe for it must be answered")
	require.Equal(t, guestMAC, sender.MAC)
	require.False(t, sender.IP.IsValid())
}

func TestIgnores(t *testing.T) {
	replace := func(from, to string) string { return strings.Replace(whoHasGateway, from, to, 1) }
	cases := []struct {
		name    string
		frame   string
		learned bool // the sender is believed though nothing is answered
	}{
		{"other address", replace("0a000202", "0a000209"), true},
		{"the guest's own address", replace("0a000202", "0a00020f"), true},
		{"reply", replace("04 0001", "04 0002"), true},
		{"unknown operation", replace("04 0001", "04 0009"), true},
		{"announcement of our address", replace("0a00020f", "0a000202"), false},
		{"request that claims our other address", replace("0a00020f", "0a000203"), false},
		{"our hardware address", replace("0001 525400123456", "0001 52550a000202"), false},
		{"multicast sender", replace("0001 525400123456", "0001 010000000001"), false},
		{"zero sender", replace("0001 525400123456", "0001 000000000000"), false},
		{"hardware type", replace("0806 0001", "0806 0006"), false},
		{"protocol type", replace("0800", "86dd"), false},
		{"hardware length", replace("06 04", "05 04"), false},
		{"protocol length", replace("06 04", "06 10"), false},
		{"ethertype", replace("0806", "0800"), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			reply, sender, ok := arp.New(gatewayMAC, gateway, dns).Answer(unhex(t, c.frame))
			require.Nil(t, reply)
			require.Equal(t, c.learned, ok)
			if !c.learned {
				require.Zero(t, sender)
			}
		})
	}
}

func TestAnswersForAllButTheGuestOnASharedNetwork(t *testing.T) {
	r := arp.New(gatewayMAC, gateway)
	r.AnswerForAllBut(guest)
	for target, answered := range map[string]bool{
		"0a000202": true, "0a000209": true, "c0000201": true, // also of other networks
		"0a00020f": false, "00000000": false,
	} {
		reply, _, ok := r.Answer(unhex(t, strings.Replace(whoHasGateway, "0a000202", target, 1)))
		require.True(t, ok)
		require.Equal(t, answered, reply != nil, target)
	}
	// Another host of the guest's looks for it.
	reply, _, ok := r.Answer(unhex(t, strings.Replace(strings.Replace(whoHasGateway, "0a00020f", "0a000209", 1), "0a000202", "0a00020f", 1)))
	require.True(t, ok)
	require.Nil(t, reply)
	announcement := strings.Replace(strings.Replace(whoHasGateway, "0a00020f", "0a000209", 1), "0a000202", "0a000209", 1)
	reply, _, ok = r.Answer(unhex(t, announcement))
	require.True(t, ok)
	require.Nil(t, reply, "who announces an address has it")
}

// Frames of 14 to 41 bytes crashed other engines (CVE-2020-29129, CVE-2020-29130).
func TestIgnoresEveryShortFrame(t *testing.T) {
	whole := unhex(t, whoHasGateway)
	for n := range whole {
		reply, _, ok := arp.New(gatewayMAC, gateway).Answer(whole[:n:n])
		require.Nil(t, reply, "%d bytes", n)
		require.False(t, ok, "%d bytes", n)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(unhex(f, whoHasGateway))
	r := arp.New(gatewayMAC, gateway, dns)
	f.Fuzz(func(t *testing.T, frame []byte) {
		reply, sender, ok := r.Answer(frame)
		if reply == nil {
			return
		}
		require.True(t, ok)
		require.Len(t, reply, 60)
		require.Equal(t, sender.MAC[:], reply[:6])
		require.NotEqual(t, gateway, sender.IP)
	})
}
