package porttest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/porttest"
)

// A test that asks for two ports before it opens one of them needs two ports.
func TestAFreePortDoesNotComeTwice(t *testing.T) {
	seen := map[uint16]bool{}
	for range 2000 {
		port := porttest.FreePort(t).Port()
		require.NotContains(t, seen, port)
		seen[port] = true
	}
}
