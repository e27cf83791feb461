package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat"
)

func TestTheFilteringOfUDPIsSaidAndLoggedOnce(t *testing.T) {
	for text, want := range map[string]nat.Filtering{
		"endpoint-independent": nat.EndpointIndependent, "address-dependent": nat.AddressDependent,
		"address-and-port-dependent": nat.AddressAndPortDependent, "endpoint-dependent": nat.AddressAndPortDependent,
	} {
		f := natFlags{filtering: text}
		c := daemon.DefaultNAT()
		require.NoError(t, f.setFiltering(&c))
		require.Equal(t, want, c.UDPFiltering)

		var out bytes.Buffer
		logFiltering(slog.New(slog.NewTextHandler(&out, nil)), c.UDPFiltering)
		lines := strings.Count(out.String(), "--udp-filtering "+text)
		if want == nat.AddressAndPortDependent {
			require.Empty(t, out.String())
			continue
		}
		require.Equal(t, 1, lines)
	}
	err := (&natFlags{filtering: "full-cone"}).setFiltering(new(daemon.NAT))
	require.ErrorContains(t, err, `--udp-filtering "full-cone": want address-and-port-dependent, address-dependent or endpoint-independent`)
}
