package l2switch

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vringnet/vring/netbackend/fdb"
)

const (
	// MaxPorts is how many Ports a Switch can have at a time.
	MaxPorts = fdb.MaxPorts
	// MaxAddresses is how many addresses a table can have.
	MaxAddresses = 1 << 17
	// MaxVLAN is the highest number of a VLAN (IEEE 802.1Q).
	MaxVLAN = 4094
	// MaxFixed is how many addresses a Port can be bound to.
	MaxFixed = 64
)

type (
	mac     = fdb.MAC
	address = fdb.Address
)

// Config configures a Switch. Default returns what it is if nobody says anything.
type Config struct {
	// Addresses is how many MAC addresses the switch can know. It is rounded up to a power of two.
	Addresses int
	// PortAddresses is how many of them a Port can have, if its own configuration does not say.
	PortAddresses int
	// Ageing is how long an address is known that is not seen.
	Ageing time.Duration
	// Flood is how many frames to groups, and to addresses that are not known, a Port may send in a second; 0 is no limit.
	Flood int
	// Wait is how long a frame waits for a receiver that has no room.
	Wait time.Duration
}

// Default returns a configuration that suits most.
func Default() Config {
	return Config{Addresses: 16384, PortAddresses: 1024, Ageing: 300 * time.Second, Flood: 5000, Wait: 2 * time.Millisecond}
}

// Check returns what is wrong.
func (c *Config) Check() error {
	switch {
	case c.Addresses < 1 || c.Addresses > MaxAddresses:
		return fmt.Errorf("%d addresses: want 1 to %d", c.Addresses, MaxAddresses)
	case c.PortAddresses < 1 || c.PortAddresses > MaxAddresses:
		return fmt.Errorf("%d addresses of a port: want 1 to %d", c.PortAddresses, MaxAddresses)
	case c.Ageing < time.Second || c.Ageing > 24*time.Hour:
		return fmt.Errorf("ageing %v: want 1s to 24h", c.Ageing)
	case c.Flood < 0 || c.Flood > 1e7:
		return fmt.Errorf("flood %d: want 0 to 10000000 frames per second", c.Flood)
	case c.Wait < 0 || c.Wait > time.Second:
		return fmt.Errorf("wait %v: want 0s to 1s", c.Wait)
	}
	return nil
}

// PortConfig configures a Port. The zero value is a port of VLAN 1, whose frames have no tags.
type PortConfig struct {
	// VLAN is that of frames without a tag. 0 is VLAN 1 without Tagged, and else no VLAN: then all frames need a tag.
	VLAN uint16
	// Tagged are VLANs whose frames have a tag (IEEE 802.1Q).
	Tagged []uint16
	// Isolated keeps frames from and to other Ports that are isolated.
	Isolated bool
	// Fixed are the only addresses that frames of the guest may come from, and no other Port's frames may. None does not bind it.
	Fixed [][6]byte
	// MaxAddresses is how many addresses frames of the guest may come from; frames from others are dropped. 0 is no such limit:
	// then Config.PortAddresses are learned, and frames from others pass.
	MaxAddresses int
	// IP are the only addresses of IP that the guest may have: frames that claim others do not pass, be it as the sender of ARP (RFC 826), as
	// the source of a packet, or in neighbour discovery (RFC 4861). None does not bind it.
	IP []netip.Prefix
	// Learned is how many addresses are learned without such a limit; 0 is Config.PortAddresses.
	Learned int
}

// Check returns what is wrong.
func (c *PortConfig) Check() error {
	if c.VLAN > MaxVLAN {
		return fmt.Errorf("VLAN %d: want 1 to %d", c.VLAN, MaxVLAN)
	}
	var named [MaxVLAN + 1]bool
	for _, vid := range c.Tagged {
		switch {
		case vid < 1 || vid > MaxVLAN:
			return fmt.Errorf("VLAN %d: want 1 to %d", vid, MaxVLAN)
		case vid == c.VLAN:
			return fmt.Errorf("VLAN %d is with tags and without", vid)
		case named[vid]:
			return fmt.Errorf("VLAN %d is named twice", vid)
		}
		named[vid] = true
	}
	return c.checkAddresses()
}

func (c *PortConfig) checkAddresses() error {
	switch {
	case len(c.IP) > MaxFixed:
		return fmt.Errorf("%d addresses of IP: a port can be bound to %d", len(c.IP), MaxFixed)
	case slices.ContainsFunc(c.IP, func(p netip.Prefix) bool { return !p.IsValid() || p.Addr().Is4In6() }):
		return errors.New("an address of IP is not valid")
	case len(c.Fixed) > MaxFixed:
		return fmt.Errorf("%d addresses: a port can be bound to %d", len(c.Fixed), MaxFixed)
	case c.MaxAddresses < 0 || c.MaxAddresses > MaxAddresses:
		return fmt.Errorf("%d addresses at most: want 1 to %d, or 0 for no limit", c.MaxAddresses, MaxAddresses)
	case c.Learned < 0 || c.Learned > MaxAddresses:
		return fmt.Errorf("%d addresses are learned: want 1 to %d, or 0 for what is usual", c.Learned, MaxAddresses)
	case c.MaxAddresses > 0 && len(c.Fixed) > 0:
		return errors.New("a port that is bound to addresses needs no limit of how many they are")
	}
	for i, b := range c.Fixed {
		if m := fdb.MACOf(b); m == 0 || m&fdb.GroupBit != 0 {
			return fmt.Errorf("%s is no address of one interface", text(b))
		}
		if slices.Contains(c.Fixed[:i], b) {
			return fmt.Errorf("%s is named twice", text(b))
		}
	}
	return nil
}

func text(b [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
}

// members are the Ports of a switch by their numbers; a number that nobody has is nil. They do not change.
type members []*Port

// Switch is what the Ports of one network share. Any goroutine may call its methods.
type Switch struct {
	cfg   Config
	table *fdb.Table
	ports atomic.Pointer[members]

	mu    sync.Mutex             // of those who add and remove Ports
	owner atomic.Pointer[owners] // of addresses that Ports are bound to
}

// owners are the numbers of Ports by the addresses that they are bound to, noPort for addresses of routers. They do not change.
type owners map[mac]int

// noPort is the number of no Port.
const noPort = -1

// New returns a switch without Ports.
func New(cfg Config) (*Switch, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	s := &Switch{cfg: cfg, table: fdb.New(1<<bits.Len(uint(cfg.Addresses-1)), int64(cfg.Ageing))}
	s.ports.Store(&members{})
	s.owner.Store(&owners{})
	return s, nil
}

// NewPort connects a guest. The Port leaves the switch when it is closed.
func (s *Switch) NewPort(cfg PortConfig) (*Port, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range cfg.Fixed {
		if _, taken := (*s.owner.Load())[fdb.MACOf(b)]; taken {
			return nil, fmt.Errorf("%s is another port's address, or a router's", text(b))
		}
	}
	ports := slices.Clone(*s.ports.Load())
	number := slices.Index(ports, nil)
	if number < 0 {
		number, ports = len(ports), append(ports, nil)
	}
	if number >= MaxPorts {
		return nil, fmt.Errorf("a switch has %d ports at most", MaxPorts)
	}
	p, err := newPort(s, number, &cfg)
	if err != nil {
		return nil, err
	}
	ports[number] = p
	s.setOwners(ports)
	for _, m := range p.fixed {
		s.table.ForgetElsewhere(m, p.number)
	}
	s.ports.Store(&ports)
	return p, nil
}

// setOwners notes whose addresses are whose. It requires s.mu.
func (s *Switch) setOwners(ports members) {
	all := owners{}
	for _, p := range ports {
		if p == nil {
			continue
		}
		for _, m := range p.fixed {
			all[m] = p.number
		}
		if g := p.guard.Load(); g != nil {
			all[g.mac] = noPort
		}
	}
	s.owner.Store(&all)
}

// remove takes a Port out of the switch. Its number may be another's from then on.
func (s *Switch) remove(p *Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ports := slices.Clone(*s.ports.Load())
	ports[p.number] = nil
	s.setOwners(ports)
	s.table.Forget(p.number)
	s.ports.Store(&ports)
}

// mayHave reports whether a frame of a Port may come from an address: no other Port is bound to it.
func (s *Switch) mayHave(p *Port, m mac) bool {
	number, bound := (*s.owner.Load())[m]
	return !bound || number == p.number
}
