package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/vringnet/vring/tap"
)

// keeperCommand is the hidden command by which vring starts itself as the keeper.
const keeperCommand = "tap-keeper"

// keeper is a process beside this one that undoes what was changed on the host. In its sandbox this process has no right
// to do so, and if it is killed nobody else would. The keeper talks to no guest; it waits for the end of its standard
// input, which is this process's end.
type keeper struct {
	in  io.Closer
	out io.Reader
}

// startKeeper starts the keeper of some changes. Without any there is none: the result is nil, which is of use.
func startKeeper(changes []tap.Changes) (*keeper, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	k, err := runKeeper(changes)
	if err != nil {
		return nil, fmt.Errorf("start the process that leaves the host as it was: %w", err)
	}
	return k, nil
}

func runKeeper(changes []tap.Changes) (*keeper, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, keeperCommand)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no signal of the terminal is for it
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &keeper{in, out}, json.NewEncoder(in).Encode(changes)
}

// undo has the keeper do its work, and waits for it.
func (k *keeper) undo() error {
	if k == nil {
		return nil
	}
	_ = k.in.Close()
	complaint, err := io.ReadAll(k.out)
	if text := strings.TrimSpace(string(complaint)); text != "" {
		err = errors.Join(errors.New(text), err)
	}
	return err
}

// newKeeper is the command that is the keeper.
func newKeeper() *cobra.Command {
	return &cobra.Command{
		Use: keeperCommand, Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP) // of a service manager; it ends with its input
			keepNetAdmin()
			err := keep(cmd.InOrStdin())
			if err != nil {
				fmt.Fprintln(cmd.OutOrStdout(), err)
			}
			return nil
		},
	}
}

// keep reads changes, waits for the end of in, and undoes them.
func keep(in io.Reader) error {
	var changes []tap.Changes
	decoder := json.NewDecoder(in)
	if err := decoder.Decode(&changes); err != nil {
		return nil // whoever started this has not come so far as to need it
	}
	_, _ = io.Copy(io.Discard, in)
	var errs []error
	for i := range changes {
		errs = append(errs, changes[i].Undo())
	}
	return errors.Join(errs...)
}

// keepNetAdmin gives up all rights but that to set up interfaces. A user without rights has none to give up.
func keepNetAdmin() {
	set := cap.NewSet()
	_ = set.SetFlag(cap.Permitted, true, cap.NET_ADMIN)
	_ = set.SetFlag(cap.Effective, true, cap.NET_ADMIN)
	_ = set.SetProc()
}
