package main

import (
	"github.com/spf13/cobra"
)

// newServe is "vring serve".
func newServe() *cobra.Command {
	return &cobra.Command{
		Use:   "serve FILE",
		Short: "Serve guests as a configuration file says",
		Long: `Serves the guests of a configuration file, as vring nat, tap, switch and stub do with flags. The file is YAML. A whole one:
  guests:
    - socket-path: /run/vring/vm0.sock
  nat:
    forwards:
      - 8080:80
      - 0.0.0.0:2222:22

Each flag of those commands has its key, with the same name and the same form of its value. Keys that hold a list have a name in
the plural: forwards, leases, routes, boot-files, boot-servers, dhcp-options, dhcp6-options.
  guests:                      one item for each guest, in order
    - socket-path: PATH          or fd: NUMBER; with tap: also tap: NAME, its device
  nat:                         or tap:, switch: or stub: - what all guests are connected to, below it the flags of that command
  log-level: debug             beside these, the flags that all commands have

The rules of --allow and --deny are one list, in which the first that matches decides:
  nat:
    rules:
      - allow: 192.168.1.7:443
      - deny: 192.168.0.0/16

Begin with the file that a command line means, or that another file means in full, and look at it before it is served:
  vring config from-flags nat --socket-path /tmp/vm0.sock -p 8080:80 > vm0.yaml
  vring config print vm0.yaml
  vring config check vm0.yaml

SIGHUP (systemctl reload) lets vring read the file again. It adopts all that has changed, or nothing: a file that is wrong, and a
change for which vring must be started again, are told in the log, and what is served stays as it is. Guests and their
connections are not disturbed. The terminal that is closed ends vring serve as little.

A key that is not known, or that is given twice, is an error, and so are anchors, aliases and tags. A file has 128 KiB at most.
docs/config.md explains a file for two guests.`,
		Args:              oneFile,
		ValidArgsFunction: completeFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			file := newSourceFile(args[0])
			checked, err := file.check()
			if err != nil {
				return err
			}
			return newService(checked, fileQueuesHint, cmd.ErrOrStderr(), file).serve(cmd.Context())
		},
	}
}

// fileQueuesHint is queuesHint for who writes a file.
const fileQueuesHint = "queues: N in its configuration file gives the guest more"
