package daemon

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAListOfProcessorsIsBounded(t *testing.T) {
	cpus, err := ParseCPUs(strings.Repeat("0-1023,", 3) + "0-1023")
	require.NoError(t, err)
	require.Len(t, cpus, 4096)
	for _, text := range []string{strings.Repeat("0-1023,", 4) + "0", strings.Repeat("0,", 4096) + "0", "1024", "0-99999999999"} {
		_, err := ParseCPUs(text)
		require.ErrorContains(t, err, `: want `)
	}
}

func TestFormatsOfTheLogAreTwo(t *testing.T) {
	for format, right := range map[string]bool{"": true, "text": true, "json": true, "xml": false, "JSON": false} {
		l := Log{Format: format}
		if err := l.check(); right {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, `: want text or json`)
		}
	}
}

func TestANetworkOfIPv6IsReadAgainWhole(t *testing.T) {
	n := NAT{}
	require.NoError(t, n.SetNetwork6(NoNetwork6))
	require.True(t, n.NoIPv6)
	require.NoError(t, n.SetNetwork6("fd00::/64"))
	require.False(t, n.NoIPv6)
	require.ErrorContains(t, n.SetNetwork6("fd00::"), "write network6 fd00::/64")
}
