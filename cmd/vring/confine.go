package main

import (
	"log/slog"
	"os"
	"slices"

	"github.com/vringnet/vring/cmd/vring/internal/sandbox"
)

// confine puts the process into its sandbox, and tells how that stands.
func (f *serveFlags) confine(log *slog.Logger) (sandbox.State, error) {
	mode, err := sandbox.ParseMode(f.sandbox)
	if err != nil {
		return nil, err
	}
	needs := f.needs
	needs.Mode, needs.Log = mode, log
	if f.client {
		needs.Dial = slices.Clone(f.socketPaths)
	} else {
		needs.Remove = slices.Concat(needs.Remove, f.socketPaths)
	}
	if notify := os.Getenv("NOTIFY_SOCKET"); notify != "" { // sd_notify(3)
		needs.Dial = append(needs.Dial, notify)
	}
	return sandbox.Enter(needs)
}
