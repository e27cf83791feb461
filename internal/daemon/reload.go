package daemon

import (
	"errors"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/servicemanager"
)

// MaxConfigFile is how many bytes ReadConfigFile returns at most.
const MaxConfigFile = broker.MaxConfig

// ReadConfigFile reads the file Program.ConfigFile as it is now, by the broker where there is a sandbox. It may be called between
// Open and the end of Serve, on any goroutine.
func (d *Daemon) ReadConfigFile() ([]byte, error) { return d.broker.ReadConfig(d.program.ConfigFile) }

// Reload calls reload, lets the audit log go on in the file that is at its path now, and tells the service manager when that begins and ends. It may be called while Serve serves guests.
func (d *Daemon) Reload(reload func()) {
	d.program.Manager(servicemanager.Reloading)
	defer d.program.Manager(servicemanager.Ready)
	reload()
	d.learner.writeNew()
	if err := d.ReopenAudit(); err != nil && !errors.Is(err, errNoAudit) {
		d.tell(AuditNotReopened{Path: d.AuditLog().Path, Err: err})
	}
}
