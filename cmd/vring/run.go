package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vringnet/vring/cmd/vring/doctor"
	"github.com/vringnet/vring/internal/qemurun"
	"github.com/vringnet/vring/internal/sidecar"
)

// runFlags are the flags of "vring run": those of "vring nat", and its own.
type runFlags struct {
	natFlags
	print bool
}

// madeByRun are the flags of "vring nat" that "vring run" sets itself.
var madeByRun = []string{"socket-path", "socket-mode", "socket-group", "fd", "client", "print-capabilities"}

// newRun is "vring run".
func newRun() *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "run [OPTION]... -- QEMU [ARGUMENT]...",
		Short: "Start QEMU with a network of vring's",
		Long: `Start QEMU with everything that a network of vring's needs: memory that both share, the socket, the network and the card.
The guest's network is that of vring nat, whose options go in front of --. vring run ends with QEMU, passes signals on to
it, and has its exit status.

  vring run -p 2222:22 -- qemu-system-x86_64 -enable-kvm -m 2G -drive file=debian.qcow2,if=virtio

A command line that has QEMU's user network (-netdev user, -nic user, -net user) can stay as it is. vring takes its place,
and its options become those of vring nat; what is different then is told before QEMU starts:

  vring run -- qemu-system-x86_64 -m 2G debian.qcow2 -nic user,model=virtio-net-pci,hostfwd=tcp::2222-:22

vring nat --help explains the options. Use vring ctl, vring top and vring ui while the guest runs.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wrongUse(errors.New("no QEMU is given; write it and its arguments behind --, as in vring run -- qemu-system-x86_64 -m 1G disk.img"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return flags.run(cmd, args) },
	}
	flags.addNAT(cmd)
	f := cmd.Flags()
	f.SetInterspersed(false) // QEMU's options are its own, also without --
	f.BoolVar(&flags.print, "print", false, "print the two command lines that would be run, and exit")
	for _, name := range madeByRun {
		_ = f.MarkHidden(name) // there is that flag
	}
	f.Lookup("log-level").DefValue = quietLevel
	return cmd
}

// quietLevel is the lowest level that is logged beside a guest, which often has the terminal for its console.
const quietLevel = "warn"

// run runs QEMU, whose command line is args.
func (f *runFlags) run(cmd *cobra.Command, args []string) error {
	if err := f.refuseOwn(); err != nil {
		return err
	}
	if _, err := exec.LookPath(args[0]); err != nil {
		return wrongUse(fmt.Errorf("%w; install QEMU (on Debian: apt install qemu-system-x86), or name it by its path", err))
	}
	if f.print {
		return f.runAt(cmd, args, filepath.Join(runtimeDir(), "vring-run.sock"))
	}
	dir, err := os.MkdirTemp(runtimeDir(), runPrefix+"*") // which is this user's; vring ctl looks for it: see usualSockets
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	return f.runAt(cmd, args, filepath.Join(dir, "vring.sock"))
}

// runtimeDir is where this user's directories of a run are made.
func runtimeDir() string { return cmp.Or(os.Getenv("XDG_RUNTIME_DIR"), os.TempDir()) }

// runPrefix begins the names of directories of vring run.
const runPrefix = "vring-run-"

// runAt is run with a path for the guest's socket.
func (f *runFlags) runAt(cmd *cobra.Command, args []string, socket string) error {
	plan, err := qemurun.Rewrite(args, qemurun.Host{Version: versionOf(args[0]), Socket: socket, Queues: f.queues})
	if err != nil {
		return wrongUse(err)
	}
	options := append(plan.NAT, givenFlags(cmd.Flags(), "print")...)
	if err := checkNAT(append(options, "--socket-path="+socket)); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	vring := slices.Concat([]string{self, "nat", "--socket-path=" + socket, "--log-level=" + quietLevel}, options)
	if f.print {
		vring[0] = "vring"
		return printCommands(cmd.OutOrStdout(), vring, plan.QEMU)
	}
	tellPlan(cmd.ErrOrStderr(), plan)
	return runBoth(cmd.ErrOrStderr(), vring, plan.QEMU, filepath.Dir(socket))
}

// runBoth runs vring and QEMU.
func runBoth(stderr io.Writer, vring, qemu []string, dir string) error {
	status, err := sidecar.Run(sidecar.Config{
		Sidecar: vring, Program: qemu, Dir: dir,
		Lost: func(err error) {
			fmt.Fprintf(stderr, "vring run: vring has ended (%v): the guest has no network any more, and goes on\n", err)
		},
	})
	if errors.Is(err, sidecar.ErrNotReady) {
		return toldError{exitError}
	}
	if err == nil && status != exitOK {
		return toldError{status}
	}
	return err
}

// refuseOwn refuses flags that say what vring run sets itself.
func (f *runFlags) refuseOwn() error {
	var faults []error
	for _, name := range madeByRun {
		if f.given(name) {
			faults = append(faults, fmt.Errorf("--%s: vring run makes the socket for QEMU itself; use vring nat to choose it", name))
		}
	}
	return wrongUse(faults...)
}

// givenFlags are the flags that were given, but for one, as they can be given again.
func givenFlags(flags *pflag.FlagSet, but string) (words []string) {
	flags.Visit(func(f *pflag.Flag) {
		if f.Name == but {
			return
		}
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, v := range values {
			words = append(words, "--"+f.Name+"="+v)
		}
	})
	return words
}

// checkNAT returns what is wrong with options of "vring nat".
func checkNAT(options []string) error {
	nat := natCommand()
	if err := nat.cmd.ParseFlags(options); err != nil {
		return wrongUse(err)
	}
	c, unread := nat.whole()
	_, err := c.Check()
	return wrongUse(unread, err)
}

// tellPlan tells the user what is different from what was written.
func tellPlan(out io.Writer, plan qemurun.Plan) {
	for _, option := range plan.NAT {
		fmt.Fprintf(out, "vring run: QEMU's user network is now vring nat %s\n", option)
	}
	notes := plan.Notes
	if host := doctor.Local(""); !plan.KVM && host.HasKVM() {
		notes = append(notes, "The guest is emulated; with -enable-kvm it would run on this machine's processor.")
	}
	for _, note := range notes {
		fmt.Fprintf(out, "vring run: %s\n", note)
	}
}

// printCommands prints command lines that a shell reads.
func printCommands(out io.Writer, commands ...[]string) error {
	for _, c := range commands {
		words := make([]string, len(c))
		for i, word := range c {
			words[i] = shellWord(word)
		}
		if _, err := fmt.Fprintln(out, strings.Join(words, " ")); err != nil {
			return err
		}
	}
	return nil
}

// plainWord is one that a shell reads as it is.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// shellWord writes a word as a shell reads it.
func shellWord(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
