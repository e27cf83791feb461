package archtest

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

const lab = "integration/lab"

// labFault returns what is wrong with an import of a package of bench or integration; empty if nothing is. Libraries for
// machines, front ends and namespaces are below both: they know neither, and of integration, bench may use only them.
func labFault(pkg, path string) string {
	switch {
	case within(pkg, lab) && within(path, lab), within(pkg, "bench") && within(path, lab):
		return ""
	case within(pkg, lab) && withinAny(path, []string{"bench", "integration"}):
		return "libraries of the lab import neither bench nor other parts of integration"
	case within(pkg, "bench") && within(path, "integration"):
		return "of integration, bench imports only libraries of the lab"
	case within(pkg, "integration") && within(path, "bench"):
		return "bench is another module"
	}
	return ""
}

func TestTheLabIsBelowBenchAndIntegration(t *testing.T) {
	seen := 0
	for _, p := range listPackages(t) {
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if within(short(path), lab) {
				seen++
			}
			if fault := labFault(short(p.ImportPath), short(path)); fault != "" {
				t.Errorf("%s imports %s: %s", short(p.ImportPath), short(path), fault)
			}
		}
	}
	require.Greater(t, seen, 50)
}

func TestTheRuleOfTheLabSeesWhatBreaksIt(t *testing.T) {
	for _, c := range []struct {
		pkg, path string
		allowed   bool
	}{
		{"integration/lab/qemu", "integration/lab/guest", true},
		{"integration/lab/qemu", "virtqueue", true},
		{"integration/lab/qemu", "integration/soak", false},
		{"integration/lab/qemu", "integration", false},
		{"integration/lab/qemu", "bench/measure", false},
		{"integration/soak", "integration/lab/uml", true},
		{"integration", "bench/report", false},
		{"bench/nat", "integration/lab/qemu", true},
		{"bench/nat", "integration/fuzz", false},
		{"bench/nat", "bench/report", true},
	} {
		require.Equal(t, c.allowed, labFault(c.pkg, c.path) == "", "%s imports %s", c.pkg, c.path)
	}
}
