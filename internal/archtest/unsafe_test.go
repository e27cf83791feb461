package archtest

import (
	"go/ast"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// unsafePlaces are the packages in which files named *_unsafe.go import unsafe, and why.
var unsafePlaces = map[string]string{
	"bench/rings/ceiling":               "indexes of a ring, unchecked",
	"cmd/vring/doctor":                  "requests to KVM",
	"integration/lab/uml":               "the seccomp filter of the harness",
	"internal/framesocket":              "system calls with iovecs, and such as allocate nothing",
	"internal/mmsg":                     "system calls with iovecs, and such as allocate nothing",
	"internal/ownrings":                 "the address of the rings",
	"internal/sandbox":                  "the seccomp filter",
	"netbackend/nat/internal/hostsock":  "system calls with iovecs of the guest's, and such as allocate nothing",
	"netbackend/nat/internal/multicast": "system calls that allocate nothing",
	"netbackend/worker":                 "epoll_pwait2",
	"virtqueue":                         "where the parts of a ring are in memory",
	"virtqueue/driver":                  "where the parts of a ring are in memory",
	"virtqueue/guestmem":                "memory of the guest's",
	"virtqueue/internal/ring":           "views of ring memory",
	"virtqueue/vqtest":                  "the driver's side of ring memory",
}

// rawCallPlaces are the packages that make system calls by number.
var rawCallPlaces = []string{
	"bench/turns", // a signal for the tracer, which must not wait in the scheduler
	"cmd/vring/doctor",
	"integration/lab/uml",
	"internal/framesocket",
	"internal/mmsg",
	"internal/sandbox",
	"netbackend/nat/internal/hostsock",
	"netbackend/nat/internal/multicast",
	"netbackend/worker",
	"virtqueue/guestmem",
}

// rawCalls are the functions of packages unix and syscall that make a system call by number.
var rawCalls = []string{"Syscall", "Syscall6", "Syscall9", "RawSyscall", "RawSyscall6", "SyscallNoError", "RawSyscallNoError",
	"RawVforkSyscall", "AllThreadsSyscall", "AllThreadsSyscall6"}

// importsOf returns the paths that a file imports.
func importsOf(f sourceFile) []string {
	var paths []string
	for _, spec := range f.syntax.Imports {
		paths = append(paths, strings.Trim(spec.Path.Value, `"`))
	}
	return paths
}

// makesRawCalls reports whether a file makes a system call by number.
func makesRawCalls(f sourceFile) (found bool) {
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && slices.Contains(rawCalls, s.Sel.Name) {
			if pkg, ok := s.X.(*ast.Ident); ok && (pkg.Name == "unix" || pkg.Name == "syscall") {
				found = true
			}
		}
		return !found
	})
	return found
}

func TestUnsafeStandsOnlyInFilesNamedSo(t *testing.T) {
	places := map[string]bool{}
	for _, f := range sourceFiles(t) {
		imports := importsOf(f)
		require.NotContains(t, imports, "C", "%s: this is a pure Go project", f.name)
		if !slices.Contains(imports, "unsafe") {
			continue
		}
		base := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(f.name), ".go"), "_test")
		if !strings.HasSuffix(base, "_unsafe") {
			t.Errorf("%s imports unsafe but is not named *_unsafe.go", f.name)
		}
		if !f.isTest() {
			places[f.dir] = true
		}
	}
	require.Equal(t, slices.Sorted(maps.Keys(unsafePlaces)), slices.Sorted(maps.Keys(places)), "packages that import unsafe")
}

func TestSystemCallsByNumberAreMadeInFewPlaces(t *testing.T) {
	places := map[string]bool{}
	for _, f := range sourceFiles(t) {
		if !f.isTest() && makesRawCalls(f) {
			places[f.dir] = true
		}
	}
	require.Equal(t, rawCallPlaces, slices.Sorted(maps.Keys(places)), "packages that make system calls by number")
}
