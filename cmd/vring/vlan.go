package main

import (
	"fmt"
	"net"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/pflag"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/tap"
)

// vlanFlags are flags that a TAP device and a port of a switch both have, as text. What they say of the two differs, and so do their helps.
type vlanFlags struct {
	vlan  uint16
	trunk string
	mac   string
}

func (f *vlanFlags) add(set *pflag.FlagSet, vlan, trunk, mac string) {
	set.Uint16Var(&f.vlan, "vlan", 0, vlan)
	set.StringVar(&f.trunk, "trunk", "", trunk)
	set.StringVar(&f.mac, "mac", "", mac)
}

// read returns what the flags say. The error holds all that cannot be read.
func (f *vlanFlags) read() (vlans tap.VLANs, mac net.HardwareAddr, _ error) {
	var errs *multierror.Error
	var err error
	vlans.Access = f.vlan
	if f.mac != "" {
		mac, err = daemon.ParseMAC("mac", f.mac)
		errs = multierror.Append(errs, err)
	}
	if f.trunk != "" {
		if vlans.Trunk, err = tap.ParseVLANs(f.trunk); err != nil {
			errs = multierror.Append(errs, fmt.Errorf("--trunk %q: %w", f.trunk, err))
		}
	}
	return vlans, mac, errs.ErrorOrNil()
}
