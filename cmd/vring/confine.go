package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"slices"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/vhostuser"
)

// startBroker starts the process that does what this one will not be able to do in its sandbox, if there is anything.
func (f *serveFlags) startBroker() error {
	mode, err := sandbox.ParseMode(f.sandbox)
	if err != nil {
		return err
	}
	duties := f.duties
	duties.Mode = mode
	switch {
	case mode == sandbox.Off: // but interfaces need rights that may be gone by the end
		duties = broker.Duties{Mode: mode, Configs: duties.Configs, Changes: duties.Changes}
	case f.client:
		duties.Dial = slices.Clone(f.socketPaths)
	default:
		duties.Remove = slices.Concat(duties.Remove, f.socketPaths)
	}
	if duties.Empty() {
		return nil
	}
	program, err := brokerProgram()
	if err != nil {
		return err
	}
	return f.broker.Start(program, duties)
}

// dial connects to a front end that listens.
func (f *serveFlags) dial(ctx context.Context, path string) (*net.UnixConn, error) {
	if f.broker.Dials(path) {
		return f.broker.Dial(path)
	}
	return vhostuser.Dial(ctx, path)
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
