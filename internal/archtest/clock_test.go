package archtest

import (
	"go/ast"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// timeOfDay are the names by which Go code gets at a clock that somebody may set, or compares what files say of it. time.Now is
// none of them: as long as its value is not converted, it is compared and subtracted by the monotonic clock.
var timeOfDay = []string{
	"Unix", "UnixMilli", "UnixMicro", "UnixNano", "AddDate", "ModTime", "Gettimeofday", "CLOCK_REALTIME", "CLOCK_TAI", "Mtim",
}

// The clock of a host may be set back and forth by days. That cannot be tried, since no namespace has a clock of its own to set.
func TestNothingIsDecidedByTheTimeOfDay(t *testing.T) {
	asked := false
	for _, f := range productOf(sourceFiles(t)) {
		if withinAny(f.dir, []string{"bench", "internal/dist", "netbackend/capture/pcap", "netbackend/capture/pcapng"}) {
			continue // results and releases bear their date, and so do packets
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				require.False(t, slices.Contains(timeOfDay, s.Sel.Name), "%s uses %s: measure time by time.Now and time.Since", f.name, s.Sel.Name)
				asked = asked || s.Sel.Name == "Since"
			}
			return true
		})
	}
	require.True(t, asked, "there is somewhere to look")
}
