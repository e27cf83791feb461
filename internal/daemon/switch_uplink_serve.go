package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/internal/ownrings"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/fdb"
	"github.com/vringnet/vring/netbackend/l2switch"
	"github.com/vringnet/vring/netbackend/vxlan"
	"github.com/vringnet/vring/netbackend/worker"
	"github.com/vringnet/vring/vhostuser"
)

// An uplink is served as a guest is, with a device and a Port of the switch: the part of the front end is played by an uplinkServer. So it has a
// thread of its own, counters, captures and an emulated link as guests have.

// UplinkCounters are those of an uplink: of its Port, and of what carries frames to other hosts.
type UplinkCounters struct {
	Switch l2switch.Counters
	VXLAN  vxlan.Counters
}

// UplinkStatus is what is known of an uplink.
type UplinkStatus struct {
	To       Uplink
	Switch   string // its name
	MTU      int    // that hosts on the switch can have, in bytes; 0 if there is no way to a remote switch
	TooLarge int    // bytes of the longest frame that was too large for the way, with its Ethernet header; 0 for none
	Remotes  []vxlan.Remote
}

// openUplink is an uplink that is open.
type openUplink struct {
	said   Uplink
	of     string // the name of the switch
	port   *l2switch.Port
	driver *vxlan.Driver
	mtu    atomic.Int64
}

// openUplinks opens the uplinks of all switches.
func (d *Daemon) openUplinks() error {
	for i := range d.config.Switches {
		s := &d.config.Switches[i]
		for j := range s.Uplinks {
			g, err := d.openUplink(s, j)
			if err != nil {
				return err
			}
			d.groups = append(d.groups, g)
			d.asked.add(&g.opened)
		}
	}
	return nil
}

func (d *Daemon) openUplink(s *SwitchSettings, i int) (*group, error) {
	lan, err := d.switches.get(s.whole())
	if err != nil {
		return nil, err
	}
	u := &openUplink{said: clone(s.Uplinks[i]), of: s.Name}
	config := lan.said.config()
	if u.driver, err = vxlan.New(u.said.VXLAN, config.Ageing, d.clock); err != nil {
		return nil, faultf("%s %s: %w", optionUplink, u.said, err)
	}
	if u.port, err = lan.NewPort(u.said.port()); err != nil {
		return nil, errors.Join(faultf("%s %s: %w", optionUplink, u.said, err), u.driver.Close())
	}
	u.measure()
	g := &group{sockets: []string{""}}
	g.opened.guests = []guest{{
		name: s.uplinkName(i), network: Network{Uplink: &u.said, Switch: &Switch{Name: s.Name, VLANs: u.said.VLANs, Isolated: u.said.Isolated}},
		ports: []netbackend.Port{u.port}, uplink: u,
		counters: []counting.Source{counting.From(func() UplinkCounters { return UplinkCounters{u.port.Counters(), u.driver.Carried()} })},
	}}
	g.opened.needs.Reconnects = true
	g.opened.close = u.driver.Close
	return g, nil
}

// measure finds out the MTU that hosts on the switch can have.
func (u *openUplink) measure() {
	mtu := u.said.MTU
	if mtu == 0 {
		mtu, _ = u.driver.InnerMTU() // without a way there is none, and frames are counted
	}
	if int64(mtu) != u.mtu.Swap(int64(mtu)) {
		u.port.Carries(mtu)
	}
}

// status is what is known of the uplink. Anybody may call it.
func (u *openUplink) status() *UplinkStatus {
	return &UplinkStatus{To: clone(u.said), Switch: u.of, MTU: int(u.mtu.Load()), TooLarge: u.driver.TooLarge(), Remotes: u.driver.Remotes()}
}

// BehindUplink returns the MAC addresses behind the remote switches of an uplink, at most so many. False is that there is no uplink of that name.
func (d *Daemon) BehindUplink(name string, most int) ([]fdb.Entry, bool) {
	for _, s := range d.all() {
		if s.name == name && s.uplink != nil {
			return s.uplink.driver.Learned(most), true
		}
	}
	return nil, false
}

// uplinkServer attaches an uplink to its device.
type uplinkServer struct {
	*openUplink
	device *worker.Device
	log    *slog.Logger
	told   bool // that a frame was too large
}

// measureInterval is how often the ways to remote switches are looked at.
const measureInterval = 10 * time.Second

// Serve implements server.
func (s *uplinkServer) Serve(ctx context.Context) error {
	for ctx.Err() == nil {
		s.driver.Begin()
		err := s.driver.Attach(s.device, vxlan.Features, s.driver)
		if err == nil {
			err = s.watch(ctx)
		}
		if err != nil {
			s.log.Warn("the uplink begins again", "reason", err)
		}
		if err := ownrings.Release(ctx, s.device); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

// watch waits until ctx ends, or the device fails.
func (s *uplinkServer) watch(ctx context.Context) error {
	ticker := time.NewTicker(measureInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.device.Failed():
			return fmt.Errorf("device: %w", err)
		case <-s.driver.Trouble():
			s.measure()
			s.tellTooLarge()
		case <-ticker.C:
			s.measure()
		}
	}
}

// tellTooLarge says what to do about frames that are too large, once.
func (s *uplinkServer) tellTooLarge() {
	if s.told {
		return
	}
	s.told = true
	mtu := s.mtu.Load()
	s.log.Warn(fmt.Sprintf("frames are too large for the way to a remote switch, and are dropped: set the MTU of the guests to %d or less "+
		"(ip link set eth0 mtu %d; behind NAT, the mtu option), or let the network between the hosts carry larger packets", mtu, mtu),
		"frame_bytes", s.driver.TooLarge(), "to", s.said.String())
}

// Stage implements server.
func (s *uplinkServer) Stage() vhostuser.Stage { return vhostuser.DriverUp }
