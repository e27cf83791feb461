package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/cmd/vring/doctor"
)

// newDoctor is "vring doctor".
func newDoctor() *cobra.Command {
	socket := "/tmp/vm0.sock"
	var boot bool
	var guest guestFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at this host for what vring and its guests need",
		Long: `Looks at this host for what vring and its guests need or are better with, says what can be done about what is
missing, and prints command lines to begin with. Nothing is changed. The exit status is 1 if there is a problem.

With --boot it boots a small guest behind vring instead, with this machine's QEMU, kernel and, where it works, KVM. The guest's only
program is vring itself. It checks the lease, streams both ways in which each byte is compared, queue pairs and interrupts, a forward
that is added while the guest runs, and the guest's driver taken away and bound again, and prints a report to paste. It takes some
20 seconds, changes nothing on the host, and needs no root where the kernel's file may be read:
  vring doctor --boot
  vring doctor --boot --kernel vmlinuz --modules /lib/modules/6.1.0-50-amd64`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			host := doctor.Local(socket)
			if boot {
				return guest.bootGuest(cmd, host)
			}
			host.Sandbox = trySandbox
			findings := doctor.Examine(host)
			qemu := lookAtQEMU()
			hint := qemu.hint([]string{socket}, false, func(string) int { return 1 })
			fmt.Fprintf(cmd.OutOrStdout(), "%s\nTo begin with:\n  vring nat --socket-path %s -p 2222:22\n%s",
				doctor.Format(findings), socket, hint.text())
			if doctor.Worst(findings) == doctor.Problem {
				return errors.New("there are problems, see above")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&boot, "boot", false, "boot a small guest on vring and check its network; --qemu, --kernel, --modules and --emulate say which")
	guest.add(cmd.Flags())
	cmd.Flags().StringVar(&socket, "socket-path", socket, "path of the socket that a guest is to have: whether it can be made, and who can connect")
	return cmd
}
