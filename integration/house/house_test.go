package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/vringnet/vring"

// Third parties, by import path; what lies below is included.
const (
	sys      = "golang.org/x/sys"
	multierr = "github.com/hashicorp/go-multierror"
	checksum = "gvisor.dev/gvisor/pkg/tcpip/checksum"
	tcpip    = "gvisor.dev/gvisor/pkg/tcpip"
	dhcp     = "github.com/insomniacslk/dhcp"
	dns      = "github.com/miekg/dns"
	netlink  = "github.com/vishvananda/netlink"
	testify  = "github.com/stretchr/testify"
	rapid    = "pgregory.net/rapid"
	landlock = "github.com/landlock-lsm/go-landlock"
	seccomp  = "github.com/elastic/go-seccomp-bpf"
	libcap   = "kernel.org/pub/linux/libs/security/libcap"
	bpf      = "golang.org/x/net/bpf"
)

// rooms is the import table: for each package of the product, what it may import beside the standard library. Paths
// without a dot in the first element are this module's. A package must be in the first row that matches it; a row that
// ends in "/..." holds for all below. multierror is for packages that check a configuration: they report all of its faults.
var rooms = []struct {
	pkg     string
	imports []string
}{
	{"virtqueue", []string{"virtqueue/guestmem", "virtqueue/internal/ring", "virtqueue/vnet", sys}},
	{"virtqueue/guestmem", []string{sys, multierr}},
	{"virtqueue/internal/ring", []string{sys + "/cpu"}},
	{"virtqueue/vnet", []string{checksum}},
	{"virtqueue/vqtest", []string{"virtqueue", sys, testify, rapid}},

	{"internal/socketfile", []string{sys}},
	{"internal/qemuopt", nil},
	{"internal/counting", nil},
	{"internal/hostcaps", []string{sys}},
	{"internal/daemon", []string{"vhostuser", "netbackend", "tap", "internal/broker", "internal/sandbox", "internal/hostcaps",
		"internal/counting", "virtqueue/guestmem", sys, multierr}},
	{"internal/broker", []string{"tap", "internal/sandbox", "internal/socketfile", "netbackend/services/dns", sys}},
	{"internal/sandbox", []string{sys, landlock, seccomp, libcap, bpf}},

	{"vhostuser", []string{"vhostuser/wire", "vhostuser/internal/fdconn", "internal/socketfile", "virtqueue", sys}},
	{"vhostuser/wire", nil},
	{"vhostuser/internal/fdconn", []string{"vhostuser/wire", sys}},
	{"vhostuser/frontend", []string{"vhostuser/wire", "vhostuser/internal/fdconn", "virtqueue", sys}},

	{"netbackend", []string{"virtqueue", sys}},
	{"netbackend/worker", []string{"netbackend", "virtqueue", sys}},
	{"netbackend/nat/internal/ipaddr", []string{sys}},
	{"netbackend/nat/internal/hostsock", []string{"netbackend/nat/internal/ipaddr", "virtqueue/guestmem", sys}},
	{"netbackend/nat/internal/ipfrag", []string{"netbackend/nat/internal/ipaddr"}},
	{"netbackend/nat/internal/route", []string{"netbackend/nat/internal/ipaddr", sys}},
	{"netbackend/nat/forward", []string{"netbackend/nat/spec", "netbackend/nat/internal/ipaddr", "internal/socketfile", sys}},
	{"netbackend/nat/spec", []string{"internal/socketfile", sys}},
	{"netbackend/nat/internal/multicast", []string{sys, multierr}},
	{"netbackend/nat/...", []string{"netbackend", "internal/socketfile", "virtqueue", sys, multierr, tcpip}},
	{"netbackend/services/...", []string{"netbackend", "virtqueue", multierr, tcpip, dhcp, dns}},
	{"netbackend/stub", []string{"netbackend", "virtqueue"}},
	{"tap", []string{"netbackend", "virtqueue", sys, netlink}},
}

// testOnly are packages that only tests, bench and integration may import.
var testOnly = []string{"virtqueue/vqtest", "vhostuser/frontend", "netbackend/nat/natguest", "bench", "integration"}

// unsafePlaces are the packages in which files named *_unsafe.go may import unsafe.
var unsafePlaces = []string{
	"internal/sandbox", // the seccomp filter
	"cmd/vring/doctor", // requests to KVM
	"virtqueue",
	"virtqueue/guestmem",
	"virtqueue/internal/ring",
	"virtqueue/vqtest", // the driver's side of ring memory
	"vhostuser/internal/fdconn",
	"netbackend/worker",                 // raw system calls of the loop
	"netbackend/nat/internal/hostsock",  // raw system calls with guest iovecs
	"netbackend/nat/internal/multicast", // system calls that allocate nothing
	"tap",                               // raw system calls with guest iovecs
	"integration/uml",                   // the seccomp filter of the harness
	"bench/rings/ceiling",               // indexes of a ring, unchecked
}

// goPackage is what `go list -json` tells of a package.
type goPackage struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
}

// modules returns the directories of the project's modules: those with a go.mod. The product's comes first.
func modules(t *testing.T) []string {
	root := projectRoot(t)
	nested, err := filepath.Glob(filepath.Join(root, "*", "go.mod"))
	require.NoError(t, err)
	require.NotEmpty(t, nested, "the benchmarks are a module of their own")
	dirs := []string{root}
	for _, file := range nested {
		dirs = append(dirs, filepath.Dir(file))
	}
	return dirs
}

// listPackages lists the packages of all modules.
func listPackages(t *testing.T) (packages []goPackage) {
	for _, dir := range modules(t) {
		list := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", "./...")
		list.Dir, list.Stderr = dir, os.Stderr
		out, err := list.Output()
		require.NoError(t, err)
		packages = append(packages, decodePackages(t, out)...)
	}
	return packages
}

// decodePackages reads what `go list -json` prints.
func decodePackages(t *testing.T, text []byte) (packages []goPackage) {
	for decoder := json.NewDecoder(bytes.NewReader(text)); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
}

// short returns a path without the module's.
func short(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
}

// within tells whether path is prefix or lies below it.
func within(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

func withinAny(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return within(path, p) })
}

// isStandard tells whether an import is of the standard library: those have no dot in their first element.
func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// allowed returns the row of a package.
func allowed(pkg string) (imports []string, found bool) {
	for _, row := range rooms {
		tree, below := strings.CutSuffix(row.pkg, "/...")
		if pkg == tree || below && within(pkg, tree) {
			return row.imports, true
		}
	}
	return nil, false
}

// Every package is checked on what it imports itself; what it links follows from that.
func TestPackagesImportOnlyWhatTheTableAllows(t *testing.T) {
	for _, p := range listPackages(t) {
		pkg := short(p.ImportPath)
		if withinAny(pkg, []string{"bench", "integration"}) {
			continue
		}
		imports, found := allowed(pkg)
		isCommand := within(pkg, "cmd")
		if !found && !isCommand {
			t.Errorf("package %s is not in the table of rooms: which packages may it import?", pkg)
			continue
		}
		for _, path := range p.Imports {
			switch {
			case isStandard(path):
			case withinAny(short(path), testOnly):
				if !withinAny(pkg, testOnly) {
					t.Errorf("%s imports %s, which is for tests, bench and integration only", pkg, short(path))
				}
			case isCommand:
			case !withinAny(short(path), imports):
				t.Errorf("%s must not import %s", pkg, short(path))
			}
		}
	}
}

// Whoever uses a package of the product builds with what its module requires.
func TestTheProductRequiresNothingThatOnlyBenchmarksNeed(t *testing.T) {
	root := modules(t)[0]
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	for _, name := range []string{"gonum.org", "go-fonts", "golang.org/x/image", "replace "} {
		require.NotContains(t, string(text), name)
	}
	for _, p := range listPackages(t) {
		if withinAny(short(p.ImportPath), []string{"bench"}) {
			continue
		}
		for _, path := range p.Imports {
			require.False(t, within(short(path), "bench"), "%s imports %s, which is of another module", p.ImportPath, path)
		}
	}
}

func TestWhatModulesRequireIsTidy(t *testing.T) {
	for _, dir := range modules(t) {
		tidy := exec.Command("go", "mod", "tidy", "-diff")
		tidy.Dir = dir
		out, err := tidy.CombinedOutput()
		require.NoError(t, err, "run go mod tidy in %s:\n%s", dir, out)
	}
}

func TestEveryPackageIsExplained(t *testing.T) {
	for _, p := range listPackages(t) {
		if !slices.Contains(p.GoFiles, "doc.go") {
			t.Errorf("package %s has no doc.go", short(p.ImportPath))
		}
	}
}

func TestUnsafeStandsOnlyInFilesNamedSo(t *testing.T) {
	root := projectRoot(t)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		name, err := filepath.Rel(root, path)
		require.NoError(t, err)
		checkUnsafe(t, path, name)
		return nil
	})
	require.NoError(t, err)
}

// checkUnsafe looks at the imports of one file, whatever its build constraints.
func checkUnsafe(t *testing.T, path, name string) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	require.NoError(t, err)
	for _, spec := range file.Imports {
		switch spec.Path.Value {
		case `"C"`:
			t.Errorf("%s imports C: this is a pure Go project", name)
		case `"unsafe"`:
			base := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(name), ".go"), "_test")
			if !strings.HasSuffix(base, "_unsafe") {
				t.Errorf("%s imports unsafe but is not named *_unsafe.go", name)
			}
			if !slices.Contains(unsafePlaces, filepath.Dir(name)) && !strings.HasSuffix(name, "_test.go") {
				t.Errorf("%s imports unsafe; packages that may: %s", name, strings.Join(unsafePlaces, ", "))
			}
		}
	}
}

func projectRoot(t *testing.T) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}
