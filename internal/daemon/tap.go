package daemon

import (
	"errors"
	"net"
	"slices"
	"sync"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/internal/hostcaps"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/tap"
)

// TAP is a TAP device of the host for each guest.
type TAP struct {
	// Devices are their names, one for each guest, in order. A device that does not exist is created, and removed in the end.
	Devices []string `option:"tap" fixed:"a device is opened before the sandbox is entered"`
	// Bridge is what the devices join, created if there is none; "" for no bridge.
	Bridge string `option:"bridge" fixed:"devices join it before the sandbox is entered"`
	// VLANs are those of the devices as ports of the bridge.
	VLANs tap.VLANs `option:"vlan,trunk" fixed:"devices join the bridge before the sandbox is entered"`
	// Queues is how many queue pairs each guest can use, each of which has a thread.
	Queues int `option:"queues" default:"1" fixed:"guests have negotiated them"`
	// MTU is that of the devices; 0 leaves it alone, and a new device has 1500.
	MTU int `option:"mtu" unit:"bytes" fixed:"guests were told, and connections agreed on their segments"`
	// MAC is that of the host's end of the devices; nil leaves it alone.
	MAC net.HardwareAddr `option:"mac" fixed:"hosts of the network know it"`
	// Reopen waits for a device that is deleted to come back, instead of ending.
	Reopen bool `option:"reopen" fixed:"the sandbox was entered with or without the calls for it"`
}

// DefaultTAP is a device with one queue.
func DefaultTAP() TAP { return TAP{Queues: 1} }

// configs are what is opened for each guest.
func (t *TAP) configs() (all []tap.Config) {
	for _, name := range t.Devices {
		all = append(all, tap.Config{
			Name: name, Queues: t.Queues, Bridge: t.Bridge, VLANs: t.VLANs, MTU: t.MTU, MAC: t.MAC, Reopen: t.Reopen,
		})
	}
	return all
}

func (t *TAP) check(p places) (plan, error) {
	configs, guests := t.configs(), max(len(p.sockets), 1)
	var errs *multierror.Error
	if len(t.Devices) != guests {
		errs = multierror.Append(errs, faultf("each %s needs a %s of its own: there are %d and %d", optionSocketPath, optionTAP, guests, len(t.Devices)))
	}
	for i, c := range configs {
		switch {
		case c.Name == "":
			errs = multierror.Append(errs, emptyFault(optionTAP))
		case slices.Contains(t.Devices[:i], c.Name):
			errs = multierror.Append(errs, faultf("%s %s is given twice: each guest needs its own", optionTAP, c.Name))
		default:
			errs = multierror.Append(errs, c.Check())
		}
	}
	return tapPlan(configs), errs.ErrorOrNil()
}

// tapPlan are the devices of all guests.
type tapPlan []tap.Config

func (configs tapPlan) names() (all []string) {
	for i := range configs {
		all = append(all, configs[i].Name)
	}
	return all
}

// open opens all devices, or none. If it may set up interfaces, the broker does so from then on, and undoes the changes.
func (configs tapPlan) open(d *Daemon) (opened, error) {
	devices, err := openTAPs(configs)
	if err != nil {
		return opened{}, err
	}
	done, admin := make(chan struct{}), hostcaps.HasNetAdmin()
	for _, device := range devices {
		if err := device.Watch(done, func(n netbackend.Notice) { d.tell(Notice{Notice: n}) }); err != nil {
			close(done)
			return opened{}, errors.Join(err, closeTAPs(devices))
		}
	}
	o := opened{
		needs: sandbox.Config{TAP: true, Reopen: configs[0].Reopen},
		close: sync.OnceValue(func() error {
			defer close(done)
			if !admin { // what was changed needed no rights: nothing
				return nil
			}
			return d.undoTAPs(devices)
		}),
	}
	for i, device := range devices {
		o.guests = append(o.guests, tapGuest(device, &configs[i]))
	}
	if admin {
		o.duties.Configs = configs
		for _, device := range devices {
			o.changes = append(o.changes, device.Changes())
			device.Administrate(d.broker)
		}
	}
	return o, nil
}

// undoTAPs undoes what was changed for devices that are closed. If there is a broker, it does so, and has done it in the end.
func (d *Daemon) undoTAPs(devices []*tap.Device) error {
	var errs []error
	for _, device := range devices {
		switch changes := device.Changes(); {
		case !d.broker.Started():
			errs = append(errs, changes.Undo())
		case !d.broker.Ending():
			errs = append(errs, d.broker.UndoDevice(device.Name()))
		}
	}
	return errors.Join(errs...)
}

// tapGuest is the guest of a device.
func tapGuest(d *tap.Device, c *tap.Config) guest {
	g := guest{
		name: d.Name(), lost: d.Lost(),
		network: Network{TAP: &TAPDevice{Name: d.Name(), Bridge: c.Bridge, MTU: d.MTU(), Queues: c.Queues}},
	}
	for _, p := range d.Ports() {
		g.ports = append(g.ports, p)
		g.counters = append(g.counters, counting.From(p.Counters))
	}
	return g
}

// openTAPs opens all devices, or none.
func openTAPs(configs []tap.Config) ([]*tap.Device, error) {
	var devices []*tap.Device
	for _, c := range configs {
		d, err := tap.Open(c)
		if err != nil {
			return nil, errors.Join(err, closeTAPs(devices))
		}
		devices = append(devices, d)
	}
	return devices, nil
}

// closeTAPs closes devices that are not served, and undoes what was changed for them.
func closeTAPs(devices []*tap.Device) error {
	var errs []error
	for _, d := range devices {
		changes := d.Changes()
		errs = append(errs, d.Close(), changes.Undo())
	}
	return errors.Join(errs...)
}
