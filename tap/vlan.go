package tap

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/netlinkdump"
)

// maxVLAN is the highest number of a VLAN (IEEE 802.1Q).
const maxVLAN = 4094

// VLANs are those of a port of a bridge. The zero value leaves them to the bridge.
type VLANs struct {
	Access uint16      // of the guest's frames without a tag, 0 for none: such frames then do not pass
	Trunk  []VLANRange // whose frames pass with their tags
}

// VLANRange are the VLANs First to Last.
type VLANRange struct{ First, Last uint16 }

// ParseVLANs reads a list of numbers and ranges of VLANs, such as 20,30-39.
func ParseVLANs(text string) ([]VLANRange, error) {
	var ranges []VLANRange
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err != nil || err2 != nil || from > to || from < 1 || to > maxVLAN {
			return nil, fmt.Errorf("VLANs %q: want numbers and ranges from 1 to %d, as in 20,30-39", text, maxVLAN)
		}
		ranges = append(ranges, VLANRange{uint16(from), uint16(to)})
	}
	return ranges, nil
}

// FormatVLANs writes ranges as ParseVLANs reads them.
func FormatVLANs(ranges []VLANRange) string {
	var parts []string
	for _, r := range ranges {
		part := strconv.Itoa(int(r.First))
		if r.Last != r.First {
			part += "-" + strconv.Itoa(int(r.Last))
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ",")
}

// set tells whether anything is said about VLANs.
func (v *VLANs) set() bool { return v.Access != 0 || len(v.Trunk) > 0 }

// filter is the set of VLANs of a port: what the kernel keeps of each (BRIDGE_VLAN_INFO_PVID and _UNTAGGED).
type filter map[uint16]uint16

func (v *VLANs) filter() filter {
	f := filter{}
	for _, r := range v.Trunk {
		for id := int(r.First); id <= int(r.Last); id++ {
			f[uint16(id)] = 0
		}
	}
	if v.Access != 0 {
		f[v.Access] = nl.BRIDGE_VLAN_INFO_PVID | nl.BRIDGE_VLAN_INFO_UNTAGGED
	}
	return f
}

// filterOf returns the VLANs of a port; none on a kernel whose bridges know none.
func filterOf(link netlink.Link) (filter, error) {
	all, err := netlinkdump.Whole(netlink.BridgeVlanList)
	if err != nil {
		return nil, step(err, "bridge vlan show")
	}
	f := filter{}
	for _, v := range all[int32(link.Attrs().Index)] {
		f[v.Vid] = v.Flags & (nl.BRIDGE_VLAN_INFO_PVID | nl.BRIDGE_VLAN_INFO_UNTAGGED)
	}
	return f, nil
}

// apply makes f the VLANs of a port.
func (f filter) apply(link netlink.Link) error {
	have, err := filterOf(link)
	if err != nil {
		return err
	}
	name := link.Attrs().Name
	for id := range have {
		if _, wanted := f[id]; !wanted {
			err = errors.Join(err, step(netlink.BridgeVlanDel(link, id, false, false, false, true), "bridge vlan del dev %s vid %d", name, id))
		}
	}
	for id, flags := range f {
		if now, there := have[id]; there && now == flags {
			continue
		}
		pvid, untagged := flags&nl.BRIDGE_VLAN_INFO_PVID != 0, flags&nl.BRIDGE_VLAN_INFO_UNTAGGED != 0
		err = errors.Join(err, step(netlink.BridgeVlanAdd(link, id, pvid, untagged, false, true), "bridge vlan add dev %s vid %d", name, id))
	}
	return err
}

// checkFiltering tells what is to be done with a bridge that does not look at VLANs, if it should.
func checkFiltering(cfg *Config, bridge *netlink.Bridge) error {
	if !cfg.VLANs.set() || bridge.VlanFiltering != nil && *bridge.VlanFiltering {
		return nil
	}
	return fmt.Errorf("bridge %s does not look at VLANs. As root: ip link set %s type bridge vlan_filtering 1", cfg.Bridge, cfg.Bridge)
}

// noFiltering says so if err is that the kernel's bridges know no VLANs.
func noFiltering(cfg *Config, err error) error {
	if cfg.VLANs.set() && errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("the bridges of this kernel know no VLANs (CONFIG_BRIDGE_VLAN_FILTERING): %w", err)
	}
	return err
}
