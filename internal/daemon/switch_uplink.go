package daemon

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/netbackend/l2switch"
	"github.com/vringnet/vring/netbackend/vxlan"
	"github.com/vringnet/vring/tap"
)

// UplinkForm is the form of an uplink that ParseUplink reads.
const UplinkForm = "vxlan://ADDRESS[:PORT][,ADDRESS...]/VNI[?name=NAME&local=ADDRESS[:PORT]&vlan=N&trunk=LIST&vlans=VLAN:VNI,...&mtu=BYTES&isolated=true]"

// Uplink leads a switch to switches of other hosts: a port of the switch whose other end is no guest.
type Uplink struct {
	// Name is what the uplink is called where guests have their names; "" is one of the switch's.
	Name string
	// VXLAN is where frames go to and come from.
	VXLAN vxlan.Config
	// VLANs and Isolated are as those of a guest's Port. VLANs of VXLAN.Mappings are in the trunk, whatever it says.
	VLANs    tap.VLANs
	Isolated bool
	// MTU is that of hosts on the switch for which the ways to the others have room, in bytes; 0 is what the kernel knows of the ways.
	MTU int
}

const (
	minUplinkMTU = 68 // of IPv4 (RFC 791)
	maxUplinkMTU = 65535
)

// ParseUplink reads an uplink: UplinkForm.
func ParseUplink(text string) (u Uplink, err error) {
	rest, isVXLAN := strings.CutPrefix(text, "vxlan://")
	if !isVXLAN {
		return u, uplinkFault(text, "want "+UplinkForm)
	}
	rest, query, _ := strings.Cut(rest, "?")
	remotes, vni, hasVNI := strings.Cut(rest, "/")
	n, err := strconv.ParseUint(vni, 10, 32)
	if !hasVNI || err != nil || n > vxlan.MaxVNI {
		return u, uplinkFault(text, fmt.Sprintf("want a VNI from 0 to %d behind a slash, as in vxlan://192.0.2.2/42", vxlan.MaxVNI))
	}
	u.VXLAN.VNI, u.VXLAN.Local = uint32(n), netip.AddrPortFrom(netip.Addr{}, vxlan.Port)
	for part := range strings.SplitSeq(remotes, ",") {
		at, ok := parseUplinkAddr(part)
		if !ok {
			return u, uplinkFault(text, fmt.Sprintf("%q is no address; want one as in 192.0.2.2, 192.0.2.2:4789 or [2001:db8::2]", part))
		}
		u.VXLAN.Remotes = append(u.VXLAN.Remotes, at)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return u, uplinkFault(text, err.Error())
	}
	for key, all := range values {
		if why := u.set(key, all[len(all)-1]); why != "" {
			return u, uplinkFault(text, why)
		}
	}
	return u, nil
}

func uplinkFault(text, why string) error { return faultf("%s %q: %s", optionUplink, text, why) }

// parseUplinkAddr reads an address with the port of VXLAN, or with another one.
func parseUplinkAddr(text string) (netip.AddrPort, bool) {
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")); err == nil && a.Zone() == "" {
		return netip.AddrPortFrom(a, vxlan.Port), true
	}
	at, err := netip.ParseAddrPort(text)
	return at, err == nil && at.Addr().Zone() == ""
}

// set reads one setting behind the question mark. It returns what is wrong.
func (u *Uplink) set(key, value string) (why string) {
	var err error
	switch key {
	case "name":
		u.Name = value
	case "local":
		at, ok := parseUplinkAddr(value)
		if !ok {
			return fmt.Sprintf("local=%s: want an address of this host, as in 192.0.2.1 or 192.0.2.1:4789", value)
		}
		u.VXLAN.Local = at
		if at.Addr().IsUnspecified() {
			u.VXLAN.Local = netip.AddrPortFrom(netip.Addr{}, at.Port())
		}
	case "vlan":
		vlan, err := strconv.ParseUint(value, 10, 16)
		if err != nil || vlan < 1 || vlan > l2switch.MaxVLAN {
			return fmt.Sprintf("vlan=%s: want 1 to %d", value, l2switch.MaxVLAN)
		}
		u.VLANs.Access = uint16(vlan)
	case "trunk":
		if u.VLANs.Trunk, err = tap.ParseVLANs(value); err != nil {
			return err.Error()
		}
	case "vlans":
		return u.setMappings(value)
	case "mtu":
		if u.MTU, err = strconv.Atoi(value); err != nil || u.MTU < minUplinkMTU || u.MTU > maxUplinkMTU {
			return fmt.Sprintf("mtu=%s: want %d to %d", value, minUplinkMTU, maxUplinkMTU)
		}
	case "isolated":
		if u.Isolated, err = strconv.ParseBool(value); err != nil {
			return "isolated=" + value + ": want true or false"
		}
	default:
		return fmt.Sprintf("an uplink has no setting %q; want name, local, vlan, trunk, vlans, mtu or isolated", key)
	}
	return ""
}

// setMappings reads networks of VLANs.
func (u *Uplink) setMappings(value string) (why string) {
	for pair := range strings.SplitSeq(value, ",") {
		vlan, vni, _ := strings.Cut(pair, ":")
		v, err := strconv.ParseUint(vlan, 10, 16)
		n, err2 := strconv.ParseUint(vni, 10, 32)
		if err != nil || err2 != nil {
			return "vlans=" + value + ": want VLANs and their VNIs, as in 10:1010,20:1020"
		}
		u.VXLAN.Mappings = append(u.VXLAN.Mappings, vxlan.Mapping{VLAN: uint16(v), VNI: uint32(n)})
	}
	return ""
}

// String writes the uplink as ParseUplink reads it.
func (u Uplink) String() string {
	var b strings.Builder
	b.WriteString("vxlan://")
	for i, r := range u.VXLAN.Remotes {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(uplinkAddr(r))
	}
	fmt.Fprintf(&b, "/%d", u.VXLAN.VNI)
	sign := byte('?')
	add := func(key, value string) {
		if value != "" {
			b.WriteByte(sign)
			b.WriteString(key + "=" + value)
			sign = '&'
		}
	}
	add("name", url.QueryEscape(u.Name))
	if local := u.VXLAN.Local; local.Addr().IsValid() {
		add("local", uplinkAddr(local))
	} else if local.Port() != vxlan.Port {
		add("local", fmt.Sprintf("0.0.0.0:%d", local.Port()))
	}
	if u.VLANs.Access != 0 {
		add("vlan", strconv.Itoa(int(u.VLANs.Access)))
	}
	add("trunk", tap.FormatVLANs(u.VLANs.Trunk))
	var pairs []string
	for _, m := range u.VXLAN.Mappings {
		pairs = append(pairs, fmt.Sprintf("%d:%d", m.VLAN, m.VNI))
	}
	add("vlans", strings.Join(pairs, ","))
	if u.MTU != 0 {
		add("mtu", strconv.Itoa(u.MTU))
	}
	if u.Isolated {
		add("isolated", "true")
	}
	return b.String()
}

func uplinkAddr(a netip.AddrPort) string {
	switch {
	case a.Port() != vxlan.Port:
		return a.String()
	case a.Addr().Is6():
		return "[" + a.Addr().String() + "]"
	}
	return a.Addr().String()
}

// port is the configuration of the uplink's Port.
func (u *Uplink) port() l2switch.PortConfig {
	s := Switch{VLANs: u.VLANs, Isolated: u.Isolated}
	c := s.port()
	c.Learned = uplinkAddresses
	if len(u.VXLAN.Mappings) > 0 && c.VLAN == 0 {
		c.VLAN = 1
	}
	for _, m := range u.VXLAN.Mappings {
		c.Tagged = append(c.Tagged, m.VLAN)
	}
	return c
}

// uplinkAddresses is how many addresses a switch knows behind an uplink: half of all.
const uplinkAddresses = 8192

func (u *Uplink) check() error {
	var errs *multierror.Error
	if u.Name != "" {
		errs = multierror.Append(errs, checkName(optionUplink, u.Name))
	}
	if u.VXLAN.Local.Port() == 0 {
		errs = multierror.Append(errs, faultf("%s %s: want a local port from 1 to 65535", optionUplink, u))
	}
	if len(u.VXLAN.Mappings) > 0 && len(u.VLANs.Trunk) > 0 {
		errs = multierror.Append(errs, faultf("%s %s: trunk and vlans exclude each other: tags pass inside, or VLANs have networks of their own", optionUplink, u))
	}
	port := u.port()
	for _, err := range []error{u.VXLAN.Check(), port.Check()} {
		if err != nil {
			errs = multierror.Append(errs, faultf("%s %s: %w", optionUplink, u, err))
		}
	}
	return errs.ErrorOrNil()
}

// checkUplinks returns what is wrong with the uplinks of all switches, one by one and together.
func (c *Config) checkUplinks() error {
	var errs *multierror.Error
	var sockets []netip.AddrPort
	for i := range c.Switches {
		for j := range c.Switches[i].Uplinks {
			u := &c.Switches[i].Uplinks[j]
			errs = multierror.Append(errs, u.check())
			if slices.ContainsFunc(sockets, func(at netip.AddrPort) bool { return overlap(at, u.VXLAN.Local) }) {
				errs = multierror.Append(errs, faultf("%s %s: another uplink has this local address and port; give one of them another, by local=ADDRESS:PORT, "+
					"or both networks one uplink, by vlans=VLAN:VNI", optionUplink, u))
			}
			sockets = append(sockets, u.VXLAN.Local)
		}
	}
	return errs.ErrorOrNil()
}

// overlap reports whether two sockets of UDP cannot be open together.
func overlap(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && (!a.Addr().IsValid() || !b.Addr().IsValid() || a.Addr() == b.Addr())
}

// uplinkNames are the names of all uplinks, in order.
func (c *Config) uplinkNames() (names []string) {
	for _, s := range c.Switches {
		for i := range s.Uplinks {
			names = append(names, s.uplinkName(i))
		}
	}
	return names
}

// uplinkName is the name of uplink i.
func (s *SwitchSettings) uplinkName(i int) string {
	if name := s.Uplinks[i].Name; name != "" {
		return name
	}
	name := "uplink"
	if s.Name != "" {
		name = s.Name + "-uplink"
	}
	if i > 0 {
		name += "-" + strconv.Itoa(i+1)
	}
	return name
}
