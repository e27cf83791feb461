package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/cmd/vring/doctor"
	"github.com/vringnet/vring/internal/bootcheck"
)

// guestFlags say what guest is booted, for "vring doctor --boot" and "vring compare".
type guestFlags struct {
	qemu          string
	kernel        string
	modules       string
	onlyEmulation bool
}

func (f *guestFlags) add(flags *pflag.FlagSet) {
	release := kernelRelease()
	flags.StringVar(&f.qemu, "qemu", doctor.QEMUName(), "QEMU's `program`")
	flags.StringVar(&f.kernel, "kernel", "/boot/vmlinuz-"+release, "`file` with the guest's kernel; the default is this machine's own")
	flags.StringVar(&f.modules, "modules", "/lib/modules/"+release, "`directory` with the modules of that kernel")
	flags.BoolVar(&f.onlyEmulation, "emulate", false, "emulate the guest's processor, also where KVM works")
}

// config is what the flags say, and what this host can.
func (f *guestFlags) config(cmd *cobra.Command, host *doctor.Host) (bootcheck.Config, error) {
	self, err := os.Executable()
	progress := cmd.ErrOrStderr()
	return bootcheck.Config{
		Vring: self, QEMU: f.qemu, Kernel: f.kernel, Modules: f.modules, KVM: !f.onlyEmulation && host.KVM() == nil, Command: guestCommand,
		Progress: func(what string) { fmt.Fprintf(progress, "%s: %s\n", cmd.CommandPath(), what) },
	}, err
}

// versions is a line about what was measured.
func (f *guestFlags) versions(kvm bool) string {
	return fmt.Sprintf("vring %s, QEMU %v, %s, Linux %s %s, %s", programVersion(), versionOf(f.qemu), processor(kvm), kernelRelease(),
		runtime.GOARCH, filepath.Base(f.kernel))
}

func kernelRelease() string {
	var name unix.Utsname
	_ = unix.Uname(&name) // it cannot fail
	return unix.ByteSliceToString(name.Release[:])
}

// guestCommand is what asks vring to be the guest of vring doctor --boot.
const guestCommand = "guest-of-doctor"

// newGuestCommand is for the guest's kernel, which starts it as the first process.
func newGuestCommand() *cobra.Command {
	return &cobra.Command{
		Use: guestCommand, Hidden: true, Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return bootcheck.RunGuest() },
	}
}

// bootGuest boots the guest, checks its network and prints the report.
func (f *guestFlags) bootGuest(cmd *cobra.Command, host *doctor.Host) error {
	c, err := f.config(cmd, host)
	if err != nil {
		return err
	}
	steps, err := bootcheck.Run(cmd.Context(), c)
	if errors.Is(err, context.Canceled) {
		return errors.New("ended before the report was whole")
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s\n\n", f.versions(c.KVM))
	return reportSteps(cmd.OutOrStdout(), steps)
}

// reportSteps prints what a user may paste.
func reportSteps(out io.Writer, steps []bootcheck.Step) error {
	failed := 0
	for _, s := range steps {
		level, found := doctor.OK, s.Found
		if s.Err != nil {
			level, found = doctor.Problem, s.Err.Error()
			failed++
		}
		fmt.Fprintf(out, "%-8v %-14s %s\n", level, s.What, found)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks have failed", failed, len(steps))
	}
	return nil
}

// processor names the guest's: the host's, or an emulated one.
func processor(kvm bool) string {
	if !kvm {
		return "emulated processor"
	}
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
			return "KVM on " + strings.TrimSpace(value)
		}
	}
	return "KVM"
}
