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
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at this host for what vring and its guests need",
		Long: `Looks at this host for what vring and its guests need or are better with, says what can be done about what is
missing, and prints command lines to begin with. Nothing is changed. The exit status is 1 if there is a problem.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			host := doctor.Local(socket)
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
	cmd.Flags().StringVar(&socket, "socket-path", socket, "path of the socket that a guest is to have: whether it can be made, and who can connect")
	return cmd
}
