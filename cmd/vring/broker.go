package main

import (
	"os"

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
