package integration

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// ways are all ways out that are tried.
func ways() []way {
	return slices.Concat(byAddress(), byNameService(), byAnswers(), byTLS(), byQUIC(), byHTTP(), byPackets())
}

// prepare makes the guest know the names that later ways lean on.
func (e *egress) prepare(t *testing.T) {
	x := &escape{egress: e, t: t, secret: "none", label: "none"}
	for _, name := range []string{"time.example", "good.example"} {
		require.NotEmpty(t, x.lookUp(name), name)
	}
}

// Nothing gets out of a guest with rules but where a rule leads; what nobody outside the guest could keep in is listed, and gets out.
func TestAGuestWithRulesByNameDoesNotGetOut(t *testing.T) {
	t.Parallel()
	e := newEgress(t)
	e.serveEcho(quicAddress, 443) // else the guest would be told that nobody listens, and would send no more
	e.start(egressRules()...)
	e.prepare(t)
	closed := 0
	for i, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			out := e.attempt(t, i, w, true)
			if w.passes != "" {
				require.NotEmpty(t, out, "the list says that it gets out: %s", w.passes)
				return
			}
			require.Empty(t, out, "%s", strings.Join(out, "\n"))
			closed++
		})
	}
	if !t.Failed() && testing.Verbose() {
		t.Logf("%d of %d ways are closed", closed, len(ways()))
	}
}

// Each way is one: without rules it leads out, or is closed for a reason that has nothing to do with names.
func TestAGuestWithoutRulesGetsOutByEachWay(t *testing.T) {
	t.Parallel()
	e := newEgress(t)
	e.serveEcho(quicAddress, 443)
	e.start("--dns", resolver, "-p", "udp:127.0.0.1:5353:5353")
	e.prepare(t)
	for i, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			out := e.attempt(t, i, w, false)
			if w.always == "" {
				require.NotEmpty(t, out, "it is no way out")
				return
			}
			require.Empty(t, out, "it is closed without rules: %s", w.always)
		})
	}
}
