package nat

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/pflag"

	"github.com/vringnet/vring/bench/program"
	"github.com/vringnet/vring/bench/testbed"
	"github.com/vringnet/vring/bench/traffic"
)

// Limits of what may be asked for, so that every run ends.
const (
	maxRounds = 1000
	maxLength = time.Hour
	maxVolume = 1024 // GiB
	minMTU    = 1280
	maxMTU    = 65535
)

// What --quick changes, unless it is asked for explicitly.
const (
	quickRounds = 1
	quickLength = 300 * time.Millisecond
)

// Names of the kinds of guest on the command line.
const (
	guestUML = "uml"
	guestTCG = "tcg"
)

// options are the command line.
type options struct {
	rounds int
	length time.Duration
	volume int64 // bytes
	mtus   []int
	tests  []*traffic.Test
	guests []string
	vring  []testbed.Vring // none: the source tree's
	peers  bool
	ipv6   bool
	out    string
}

// flags are the command line as it is given.
type flags struct {
	*pflag.FlagSet
	tests, builds  []string
	volume         int64
	noPeers, quick bool
}

// usage comes before the list of flags.
const usage = `Compares vring nat with its peers and with the host's loopback: cd bench && go run . nat [flags]

Tests:
`

// newFlags declares the command line of o. Help goes to w.
func newFlags(o *options, w io.Writer) *flags {
	f := &flags{FlagSet: pflag.NewFlagSet("bench nat", pflag.ContinueOnError)}
	f.SetOutput(w)
	f.SortFlags = false
	f.StringSliceVar(&f.tests, "tests", usualTests(), "tests to run, in this order")
	f.StringSliceVar(&o.guests, "guests", []string{guestUML, guestTCG},
		"guests: uml is User-mode Linux, at native speed, for vhost-user back ends; tcg is QEMU with an emulated processor")
	f.IntSliceVar(&o.mtus, "mtu", []int{1500}, "MTUs of the guest; tests that are not of streams run at the first only")
	f.IntVar(&o.rounds, "rounds", 5, "rounds; in each, every subject runs every test in each direction")
	f.DurationVar(&o.length, "length", time.Second, "how long each run of a test takes")
	f.Int64Var(&f.volume, "volume", 1, "how much the test digest sends, in GiB")
	f.BoolVar(&f.quick, "quick", false, fmt.Sprintf("%d round of %v, to see whether everything works", quickRounds, quickLength))
	f.StringArrayVar(&f.builds, "vring", nil, "a build of vring, NAME=PATH (repeatable; default: this source tree's)")
	f.BoolVar(&f.noPeers, "no-peers", false, "only vring and the loopback")
	f.BoolVar(&o.ipv6, "ipv6", false, "measure vring over IPv6, too")
	f.StringVar(&o.out, "out", program.ResultsFolder("nat", time.Now()), "folder for the results")
	f.Usage = func() {
		fmt.Fprint(w, usage)
		for _, test := range traffic.Tests() {
			fmt.Fprintf(w, "  %-9s %s\n", test.Name, test.Title)
		}
		fmt.Fprintf(w, "\nFlags:\n%s", f.FlagUsages())
	}
	return f
}

// usualTests are those that measure; the others check.
func usualTests() []string {
	var names []string
	for _, test := range traffic.Tests() {
		if !test.Checks {
			names = append(names, test.Name)
		}
	}
	return names
}

// parseOptions reads the command line. Help goes to w.
func parseOptions(args []string, w io.Writer) (options, error) {
	var opt options
	f := newFlags(&opt, w)
	if err := program.ParseFlags(f.FlagSet, args); err != nil {
		return opt, err
	}
	if f.quick && !f.Changed("rounds") {
		opt.rounds = quickRounds
	}
	if f.quick && !f.Changed("length") {
		opt.length = quickLength
	}
	opt.peers = !f.noPeers
	opt.volume = f.volume << 30
	var errTests, errBuilds error
	opt.tests, errTests = findTests(f.tests)
	opt.vring, errBuilds = program.ParseBuilds(f.builds, takenNames(), func(name, path string) testbed.Vring {
		return testbed.Vring{Label: name, Path: path}
	})
	return opt, errors.Join(errTests, errBuilds, opt.check())
}

func findTests(names []string) ([]*traffic.Test, error) {
	var tests []*traffic.Test
	for _, name := range names {
		test, err := traffic.Find(name)
		if err != nil {
			return nil, fmt.Errorf("--tests: %w", err)
		}
		tests = append(tests, test)
	}
	return tests, nil
}

// takenNames are those of subjects that are no builds of vring.
func takenNames() []string {
	taken := []string{testbed.Loopback{}.Name()}
	for _, peer := range peers() {
		taken = append(taken, peer.Name())
	}
	return taken
}

// check reports all values that are out of range.
func (o options) check() error {
	var all *multierror.Error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			all = multierror.Append(all, fmt.Errorf(format, args...))
		}
	}
	require(o.rounds >= 1 && o.rounds <= maxRounds, "--rounds %d is not between 1 and %d", o.rounds, maxRounds)
	require(o.length > 0 && o.length <= maxLength, "--length %v is not above 0 and up to %v", o.length, maxLength)
	require(o.volume > 0 && o.volume <= maxVolume<<30, "--volume is not between 1 and %d", maxVolume)
	require(len(o.mtus) > 0, "--mtu: no MTU")
	for _, mtu := range o.mtus {
		require(mtu >= minMTU && mtu <= maxMTU, "--mtu %d is not between %d and %d", mtu, minMTU, maxMTU)
	}
	for _, g := range o.guests {
		require(g == guestUML || g == guestTCG, "--guests: no guest %q; there are %s and %s", g, guestUML, guestTCG)
	}
	return all.ErrorOrNil()
}
