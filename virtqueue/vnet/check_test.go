package vnet

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAFrameIsTakenByGuestsThatHaveAcknowledgedAllThatItLeavesUndone(t *testing.T) {
	const uso = FeatureGuestUSO4 | FeatureGuestUSO6
	for name, c := range map[string]struct {
		header Header
		needs  uint64
	}{
		"nothing":           {Header{}, 0},
		"a checked sum":     {Header{Flags: FlagDataValid}, 0},
		"a checksum":        {Header{Flags: FlagNeedsCSum}, FeatureGuestCSum},
		"TCP over IPv4":     {Header{Flags: FlagNeedsCSum, GSOType: GSOTCPv4}, FeatureGuestCSum | FeatureGuestTSO4},
		"TCP over IPv6":     {Header{Flags: FlagNeedsCSum, GSOType: GSOTCPv6}, FeatureGuestCSum | FeatureGuestTSO6},
		"TCP with ECN":      {Header{Flags: FlagNeedsCSum, GSOType: GSOTCPv4 | GSOECN}, FeatureGuestCSum | FeatureGuestTSO4 | FeatureGuestECN},
		"datagrams of UDP":  {Header{Flags: FlagNeedsCSum, GSOType: GSOUDPL4}, FeatureGuestCSum | uso},
		"without checksums": {Header{GSOType: GSOTCPv6}, FeatureGuestTSO6},
	} {
		t.Run(name, func(t *testing.T) {
			require.True(t, c.header.AcceptedBy(c.needs))
			require.True(t, c.header.AcceptedBy(^uint64(0)))
			for bit := uint64(1); bit != 0; bit <<= 1 {
				if c.needs&bit != 0 {
					require.False(t, c.header.AcceptedBy(^bit), "without bit %#x", bit)
				}
			}
		})
	}
	unknown := Header{GSOType: GSOUDP}
	require.False(t, unknown.AcceptedBy(^uint64(0)), "a kind that no guest is offered")
}
