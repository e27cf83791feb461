package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/sandbox"
)

// wallsCommand is the hidden command by which vring tries its sandbox, which cannot be left again.
const wallsCommand = "sandbox-walls"

// newWallsCommand is the command that enters the sandbox and prints how it stands.
func newWallsCommand() *cobra.Command {
	return &cobra.Command{
		Use: wallsCommand, Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := sandbox.Enter(sandbox.Config{Internet: true, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(state)
		},
	}
}

// trySandbox enters the sandbox in another process, and returns what it does not keep.
func trySandbox() (lacks []string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := exec.Command(self, wallsCommand).Output()
	if failed := new(exec.ExitError); errors.As(err, &failed) {
		return nil, errors.New(strings.TrimSpace(string(failed.Stderr)))
	}
	if err != nil {
		return nil, err
	}
	var state sandbox.State
	if err := json.Unmarshal(text, &state); err != nil {
		return nil, fmt.Errorf("what the sandbox says of itself: %w", err)
	}
	for _, w := range state {
		if w.Weak {
			lacks = append(lacks, w.Name+": "+w.Lacks)
		}
	}
	return lacks, nil
}
