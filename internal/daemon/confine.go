package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/vhostuser"
)

// duties are what the broker is for.
func (d *Daemon) duties() broker.Duties {
	duties, from := d.opened.duties, &d.config.FrontEnds
	duties.Mode = d.config.Sandbox
	switch {
	case duties.Mode == sandbox.Off: // but interfaces need rights that may be gone by the end
		return broker.Duties{Mode: duties.Mode, Configs: duties.Configs, Changes: duties.Changes}
	case from.Client:
		duties.Dial = slices.Clone(from.SocketPaths)
	default:
		duties.Remove = slices.Concat(duties.Remove, from.SocketPaths)
	}
	return duties
}

// startBroker starts the process that does what this one will not be able to do in its sandbox, if there is anything.
func (d *Daemon) startBroker() error {
	duties := d.duties()
	if duties.Empty() {
		return nil
	}
	return d.broker.Start(d.program.Broker, duties)
}

// dial connects to a front end that listens.
func (d *Daemon) dial(ctx context.Context, path string) (*net.UnixConn, error) {
	if d.broker.Dials(path) {
		return d.broker.Dial(path)
	}
	return vhostuser.Dial(ctx, path)
}

// Confine gives up the rights of this process that are not needed to serve what is open. After an error the daemon is
// closed, and some rights may be gone.
func (d *Daemon) Confine() error {
	needs := d.opened.needs
	needs.Mode, needs.Log, needs.Notify = d.config.Sandbox, d.program.Log, d.manager.fd
	if os.Geteuid() == 0 {
		d.tell(RunsAsRoot{})
	}
	var err error
	if d.walls, err = sandbox.Enter(needs); err != nil {
		return errors.Join(err, d.Close())
	}
	return nil
}
