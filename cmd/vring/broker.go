package main

import (
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/broker"
)

// brokerCommand is the hidden command by which vring starts itself as the broker.
const brokerCommand = "broker"

// newBrokerCommand is the command that is the broker.
func newBrokerCommand() *cobra.Command {
	return &cobra.Command{
		Use: brokerCommand, Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return broker.Run(cmd.InOrStdin()) },
	}
}

// brokerProgram is this program as the broker.
func brokerProgram() ([]string, error) {
	self, err := os.Executable()
	return []string{self, brokerCommand}, err
}

// observeBroker logs what becomes of the broker.
func observeBroker(log *slog.Logger) broker.Observer {
	return broker.Observer{
		Ended: func(d broker.Duties) {
			log.Error("the process that does what is not possible in the sandbox has ended; the guests are served, but " +
				undone(&d) + " until vring is started again")
		},
		Unread: func(reason string) {
			log.Warn("the host's resolvers cannot be read; until they can, guests' names are not resolved", "reason", reason)
		},
	}
}

// undone tells what does not happen without the broker.
func undone(d *broker.Duties) string {
	var lost []string
	for _, duty := range []struct {
		has  bool
		lost string
	}{
		{d.Read != "", "changes of " + d.Read + " are not seen"},
		{len(d.Dial) > 0, "no front end is dialled"},
		{len(d.Remove) > 0, "the files of sockets are not removed"},
		{len(d.Configs) > 0, "the host's interfaces are not set up, and nothing is undone"},
	} {
		if duty.has {
			lost = append(lost, duty.lost)
		}
	}
	return strings.Join(lost, ", ")
}
