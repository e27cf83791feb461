package vnet_test

import (
	"math/bits"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue/vnet"
)

func TestFeatureNames(t *testing.T) {
	tests := []struct {
		features uint64
		want     string
	}{
		{0, ""},
		{vnet.FeatureCSum | vnet.FeatureMrgRxBuf | vnet.FeatureVersion1, "CSUM MRG_RXBUF VERSION_1"},
		{vnet.FeatureHostUSO | vnet.FeatureMQ, "MQ HOST_USO"},
		{1<<4 | 1<<25 | 1<<63, "BIT_4 BIT_25 SPEED_DUPLEX"},
		// Much of what a Linux guest acknowledges.
		{0x140009983, "CSUM GUEST_CSUM GUEST_TSO4 GUEST_TSO6 HOST_TSO4 HOST_TSO6 MRG_RXBUF PROTOCOL_FEATURES VERSION_1"},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, strings.Join(vnet.FeatureNames(tt.features), " "))
	}
}

func TestEveryFeatureHasOneName(t *testing.T) {
	names := vnet.FeatureNames(^uint64(0))
	require.Len(t, names, 64)
	seen := map[string]bool{}
	unnamed := []int{4, 25, 31, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 58}
	for bit, name := range names {
		require.False(t, seen[name], name)
		seen[name] = true
		if name == "BIT_"+strconv.Itoa(bit) {
			require.Equal(t, unnamed[0], bit)
			unnamed = unnamed[1:]
		}
	}
	require.Empty(t, unnamed)
}

func TestBitNumbersAreThoseOfTheSpecification(t *testing.T) {
	for name, bit := range map[string]int{
		"CSUM": 0, "GUEST_CSUM": 1, "MTU": 3, "MAC": 5, "GUEST_TSO4": 7, "GUEST_TSO6": 8, "GUEST_ECN": 9, "GUEST_UFO": 10,
		"HOST_TSO4": 11, "HOST_TSO6": 12, "HOST_ECN": 13, "HOST_UFO": 14, "MRG_RXBUF": 15, "STATUS": 16, "CTRL_VQ": 17,
		"GUEST_ANNOUNCE": 21, "MQ": 22, "NOTIFY_ON_EMPTY": 24, "LOG_ALL": 26, "ANY_LAYOUT": 27, "INDIRECT_DESC": 28,
		"EVENT_IDX": 29, "PROTOCOL_FEATURES": 30, "VERSION_1": 32, "ACCESS_PLATFORM": 33, "RING_PACKED": 34,
		"IN_ORDER": 35, "RING_RESET": 40, "GUEST_USO4": 54, "GUEST_USO6": 55, "HOST_USO": 56, "HASH_REPORT": 57, "RSS": 60,
	} {
		require.Equal(t, []string{name}, vnet.FeatureNames(1<<bit), "bit %d", bit)
	}
	require.Equal(t, 32, bits.TrailingZeros64(vnet.FeatureVersion1))
}
