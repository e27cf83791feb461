package main

import (
	"log/slog"
	"os"
	"slices"

	"github.com/vringnet/vring/internal/sandbox"
)

// startKeeper starts the process that does what this one will not be able to do in its sandbox, if there is anything.
func (f *serveFlags) startKeeper(log *slog.Logger) error {
	mode, err := sandbox.ParseMode(f.sandbox)
	if err != nil {
		return err
	}
	start := f.duties
	start.Mode = mode
	switch {
	case mode == sandbox.Off: // but interfaces need rights that may be gone by the end
		start = keeperStart{Mode: mode, Configs: start.Configs, Changes: start.Changes}
	case f.client:
		start.Dial = slices.Clone(f.socketPaths)
	default:
		start.Remove = slices.Concat(start.Remove, f.socketPaths)
	}
	if start.empty() {
		return nil
	}
	return f.keeper.start(log, start)
}

// confine puts the process into its sandbox, and tells how that stands.
func (f *serveFlags) confine(log *slog.Logger, manager *serviceManager) (sandbox.State, error) {
	mode, err := sandbox.ParseMode(f.sandbox)
	if err != nil {
		return nil, err
	}
	needs := f.needs
	needs.Mode, needs.Log, needs.Notify = mode, log, manager.fd
	if os.Geteuid() == 0 {
		log.Info("vring runs as root: its sandbox is all that stands between a guest that breaks out and the files and " +
			"processes of root; a user of its own, such as User= in a systemd unit, is a second wall")
	}
	return sandbox.Enter(needs)
}
