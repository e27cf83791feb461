package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/qemurun"
)

// userFlags are the flags of "vring user": those of "vring nat", and its own.
type userFlags struct {
	natFlags
	print bool
}

// newUser is "vring user".
func newUser() *cobra.Command {
	var flags userFlags
	cmd := &cobra.Command{
		Use:   "user OPTIONS --socket-path PATH [OPTION]...",
		Short: "Be vring nat, with options as those of QEMU's -netdev user",
		Long: `Give a guest the network of vring nat, as QEMU's user network describes it: OPTIONS are those behind -netdev user, which may be left out.
vring says what is different, and goes on as vring nat, all options of which may follow.

  vring user hostfwd=tcp::8080-:80,net=192.168.76.0/24,restrict=on --socket-path /tmp/vm0.sock
  vring user user,guestfwd=tcp:10.0.2.100:5432-tcp:127.0.0.1:5432 --socket-path /tmp/vm0.sock --mtu 9000

vring run does the same for a whole command line of QEMU.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return wrongUse(fmt.Errorf("want one list of options of QEMU's user network, as in vring user hostfwd=tcp::8080-:80; there are %d", len(args)))
		},
		RunE: func(cmd *cobra.Command, args []string) error { return flags.run(cmd, args[0]) },
	}
	flags.addNAT(cmd)
	cmd.Flags().BoolVar(&flags.print, "print", false, "print the command line of vring nat that would be run, and exit")
	return cmd
}

// run becomes "vring nat".
func (f *userFlags) run(cmd *cobra.Command, options string) error {
	translated, notes, err := qemurun.User(options)
	if err != nil {
		return wrongUse(errors.New(strings.TrimSpace(err.Error())))
	}
	all := append(translated, givenFlags(cmd.Flags(), "print")...)
	if err := checkNAT(all); err != nil {
		return err
	}
	if f.print {
		return printCommands(cmd.OutOrStdout(), slices.Concat([]string{"vring", "nat"}, all))
	}
	for _, note := range notes {
		fmt.Fprintf(cmd.ErrOrStderr(), "vring user: %s\n", note)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return os.NewSyscallError("execve", unix.Exec(self, slices.Concat([]string{"vring", "nat"}, all), os.Environ()))
}
