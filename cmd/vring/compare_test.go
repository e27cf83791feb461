package main

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/bootcheck"
)

func TestAComparisonHasARowForEachThatWasMeasuredAndAReasonForTheOthers(t *testing.T) {
	vring := bootcheck.Measured{Peer: "vring", Lease: 2340 * time.Millisecond, MTU: 1500, Out: 12.345, In: 9.5, Requests: 20123.4, Connections: 4000}
	absent := bootcheck.Measured{Peer: "gvproxy", Err: errors.New("it is not installed")}
	var out bytes.Buffer
	require.NoError(t, printComparison(&out, []bootcheck.Measured{vring, absent}))
	require.Equal(t, `         lease   MTU     out      in  requests  connections
             s        Gbit/s  Gbit/s        /s           /s
  vring    2.3  1500   12.35    9.50     20123         4000

gvproxy: it is not installed
`, out.String())

	out.Reset()
	vring.Err = errors.New("the guest has not come up")
	require.ErrorContains(t, printComparison(&out, []bootcheck.Measured{vring, absent}), "vring was not measured")
	require.Contains(t, out.String(), "vring: the guest has not come up")
}

func TestOnlyPeersThatThereAreCanBeCompared(t *testing.T) {
	chosen, err := bootcheck.Peers(bootcheck.Programs{}, []string{"gvproxy", "vring"})
	require.NoError(t, err)
	require.Equal(t, []string{"gvproxy", "vring"}, []string{chosen[0].Name, chosen[1].Name})

	status, _, stderr := runHere(t, "compare", "--peers", "vring,slirp")
	require.Equal(t, exitUsage, status)
	require.Contains(t, stderr, `there is no "slirp"; there are vring, qemu-user, passt-vhost-user, passt-stream, gvproxy`)
}
