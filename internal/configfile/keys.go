package configfile

import (
	"cmp"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/netem"
	"github.com/vringnet/vring/tap"
)

// Sections of the file.
const (
	guestsKey = "guests"
	natKey    = "nat"
	tapKey    = "tap"
	stubKey   = "stub"
	switchKey = "switch"

	switchesKey = "switches"
)

// topKeys are the keys beside the guests and their network.
func topKeys() []key {
	return []key{
		{name: "client", fields: []string{"FrontEnds.Client"}, about: "Connect to the sockets of all guests instead of listening: the front ends listen.",
			value: scalar[bool]{truth(), func(c *daemon.Config) *bool { return &c.FrontEnds.Client }}},
		{name: "socket-mode", fields: []string{"FrontEnds.SocketMode"}, about: "Permissions of the sockets' files, in octal.",
			value: scalar[os.FileMode]{socketMode(), func(c *daemon.Config) *os.FileMode { return &c.FrontEnds.SocketMode }}},
		{name: "socket-group", fields: []string{"FrontEnds.SocketGroup"}, about: "Group, by name or number, that the sockets' files are given to.",
			value: custom{readGroup, writeGroup, form[string]{kinds: texts()}.schema()}},
		{name: "front-end", fields: []string{"FrontEnds.Kind"}, about: "How front ends pass frames: vhost-user, or without sharing the guest's memory stream, vfkit or bess.",
			value: scalar[daemon.FrontEnd]{frontEndKind(), func(c *daemon.Config) *daemon.FrontEnd { return &c.FrontEnds.Kind }}},
		{name: "one-off", fields: []string{"FrontEnds.OneOff"}, about: "Stop serving a guest when its first front end has gone.",
			value: scalar[bool]{truth(), func(c *daemon.Config) *bool { return &c.FrontEnds.OneOff }}},
		{name: "poll-us", fields: []string{"Threads.Poll"}, about: "How long a thread polls its rings after work before it sleeps, in microseconds; 0 never polls.",
			value: scalar[time.Duration]{microseconds(), func(c *daemon.Config) *time.Duration { return &c.Threads.Poll }}},
		{name: "cpus", fields: []string{"Threads.CPUs"}, about: "Processors that the guests' threads are pinned to: " + daemon.CPUListForm + ".",
			value: scalar[[]int]{form[[]int]{parse: daemon.ParseCPUs, text: daemon.FormatCPUs, kinds: texts()}, func(c *daemon.Config) *[]int { return &c.Threads.CPUs }}},
		{name: "log-level", fields: []string{"Log.Level"}, about: "Lowest level that is logged.",
			value: scalar[slog.Level]{logLevel(), func(c *daemon.Config) *slog.Level { return &c.Log.Level }}},
		{name: "log-format", fields: []string{"Log.Format"}, about: "Format of all output on standard error.",
			value: scalar[string]{logFormat(), func(c *daemon.Config) *string { return &c.Log.Format }}},
		{name: "control", fields: []string{"Control.Socket", "Control.Off"}, about: "Unix socket at which vring ctl asks and changes this vring; off for none. Without it, the first guest's with .ctl behind it.",
			value: scalar[daemon.Control]{control(), func(c *daemon.Config) *daemon.Control { return &c.Control }}},
		{name: "metrics", fields: []string{"Metrics"}, about: "TCP port at which Prometheus reads what was counted: " + daemon.MetricsForm + ". Without an address it is one of the loopback.",
			value: scalar[netip.AddrPort]{hostPort(daemon.ParseMetrics), func(c *daemon.Config) *netip.AddrPort { return &c.Metrics }}},
		{name: "socks", fields: []string{"SOCKS"}, about: "TCP port at which programs connect into guests behind NAT, by SOCKS 5: " + daemon.MetricsForm + ". Without an address it is one of the loopback.",
			value: scalar[netip.AddrPort]{hostPort(daemon.ParseSOCKS), func(c *daemon.Config) *netip.AddrPort { return &c.SOCKS }}},
		{name: "ui", fields: []string{"UI"}, about: "TCP port of the loopback at which a web page shows this vring: " + daemon.MetricsForm + ". The log has its address, with a token.",
			value: scalar[netip.AddrPort]{hostPort(daemon.ParseUI), func(c *daemon.Config) *netip.AddrPort { return &c.UI }}},
		{name: "state", fields: []string{"State"}, about: "File in which what is changed while guests are served is kept, and with which the next start begins.",
			value: scalar[string]{plain[string](), func(c *daemon.Config) *string { return &c.State }}},
		{name: "audit-log", fields: []string{"AuditLog"}, about: "File to which lines of JSON are added that say what guests behind NAT ask for, begin, are denied and have ended; - is standard output.",
			value: scalar[string]{plain[string](), func(c *daemon.Config) *string { return &c.AuditLog }}},
		{name: "audit-off", fields: []string{"AuditOff"}, about: "Add no line to the audit log until that is changed.",
			value: scalar[bool]{truth(), func(c *daemon.Config) *bool { return &c.AuditOff }}},
		{name: "learn", fields: []string{"Learn"}, about: "File to which is written, as rules, where guests behind NAT go, while all is open to them that no rule by address closes.",
			value: scalar[string]{plain[string](), func(c *daemon.Config) *string { return &c.Learn }}},
		{name: switchesKey, fields: []string{"Switches"}, options: []string{"switch-uplink"}, about: "What holds for whole switches, each said once instead of below guests.",
			value: wholeSwitches{}},
		{name: "sandbox", fields: []string{"Sandbox"}, about: "Whether rights are given up after the start: on, strict (fail if less is possible), off, or log (allow everything; the kernel logs).",
			value: scalar[sandbox.Mode]{choice(sandboxModes(), sandbox.ParseMode, sandbox.Mode.String), func(c *daemon.Config) *sandbox.Mode { return &c.Sandbox }}},
	}
}

func sandboxModes() []string { return []string{"on", "strict", "off", "log"} }

func socketMode() form[os.FileMode] {
	return form[os.FileMode]{parse: daemon.ParseSocketMode, kinds: texts(), text: func(m os.FileMode) string {
		if m == 0 {
			return ""
		}
		return "0" + strconv.FormatUint(uint64(m), 8)
	}}
}

func microseconds() form[time.Duration] {
	n := number[int]()
	return form[time.Duration]{
		parse: func(text string) (time.Duration, error) {
			us, err := n.parse(text)
			if err == nil && us > int(daemon.MaxPoll/time.Microsecond) {
				err = wantError("0 to " + strconv.Itoa(int(daemon.MaxPoll/time.Microsecond)))
			}
			return time.Duration(us) * time.Microsecond, err
		},
		text: func(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) }, bare: true, kinds: n.kinds,
	}
}

func logLevel() form[slog.Level] {
	parse := func(text string) (slog.Level, error) {
		l, err := daemon.ParseLogLevel(text)
		return l.Level, err
	}
	return choice(daemon.LogLevels(), parse, func(l slog.Level) string { return strings.ToLower(l.String()) })
}

func control() form[daemon.Control] {
	parse := func(text string) (daemon.Control, error) { return daemon.ParseControl(text), nil }
	return form[daemon.Control]{parse: parse, text: daemon.Control.String, kinds: texts()}
}

// hostPort is the form of a port of this host.
func hostPort(parse func(string) (netip.AddrPort, error)) form[netip.AddrPort] {
	return form[netip.AddrPort]{parse: parse, kinds: texts(), text: func(at netip.AddrPort) string {
		if !at.IsValid() {
			return ""
		}
		return at.String()
	}}
}

func readGroup(r *reader, k *key, n ast.Node, c *daemon.Config) {
	if group, ok := readOne(r, k, n, form[int]{parse: r.groups}); ok {
		c.FrontEnds.SocketGroup = &group
	}
}

func writeGroup(c *daemon.Config) (w written) {
	if group := c.FrontEnds.SocketGroup; group != nil {
		w.items = []string{strconv.Itoa(*group)}
	}
	return w
}

func frontEndKind() form[daemon.FrontEnd] {
	return choice(daemon.FrontEndNames(), daemon.ParseFrontEnd, daemon.FrontEnd.String)
}

func logFormat() form[string] {
	f := named(daemon.FormatText, daemon.FormatJSON)
	f.text = func(format string) string { return cmp.Or(format, daemon.FormatText) }
	return f
}

// guestKeys are the keys of each guest that shares its network. What they set are lists of all guests.
func guestKeys() []key {
	return []key{
		socketKey(guestText{func(c *daemon.Config) *[]string { return &c.FrontEnds.SocketPaths }}),
		{name: "fd", fields: []string{"FrontEnds.FD"}, about: "Number of an inherited unix socket, listening or connected, instead of socket-path; for one guest only.",
			value: scalar[*int]{optional(number[int]()), func(c *daemon.Config) **int { return &c.FrontEnds.FD }}},
		{name: "tap", fields: []string{"TAP.Devices"}, about: "TAP device of the host that the guest is connected to.",
			value: guestText{func(c *daemon.Config) *[]string { return &devicesOf(c).Devices }}},
		linkKey(),
	}
}

// linkKey is the key of a guest's link. A guest that has a network of its own has it in its configuration as one that shares it has.
func linkKey() key {
	return key{name: linkName, fields: []string{"FrontEnds.Links"}, about: "How the link between the guest and its network is: a preset, keys, or both, as in delay=40ms,loss=1%,rate=10mbit or lte,in:rate=20mbit; none is one that is not emulated.",
		value: guestLink{}}
}

// guestLink is the link of each guest.
type guestLink struct{}

func linkForm() form[netem.Link] { return stringer(daemon.ParseLink) }

// read reads the link of the guest that was read last, or a list of those of all guests, as a state has it.
func (guestLink) read(r *reader, k *key, n ast.Node, c *daemon.Config) {
	links := &c.FrontEnds.Links
	if _, isList := n.(*ast.SequenceNode); isList {
		*links = nil
		(list[netem.Link]{linkForm(), func(c *daemon.Config) *[]netem.Link { return &c.FrontEnds.Links }}).read(r, k, n, c)
		return
	}
	l, ok := readOne(r, k, n, linkForm())
	if !ok {
		return
	}
	guest := max(len(c.FrontEnds.SocketPaths), 1) - 1
	for len(*links) <= guest {
		*links = append(*links, netem.Link{})
	}
	(*links)[guest] = l
}

// write writes the links as a list, with none for those before the last that are not emulated.
func (guestLink) write(c *daemon.Config) written {
	w := written{list: true}
	last := 0
	for i, l := range c.FrontEnds.Links {
		if w.items = append(w.items, quoted(l.String(), false)); !l.IsZero() {
			last = i + 1
		}
	}
	w.items = w.items[:min(last, len(w.items))]
	return w
}

func (guestLink) schema() object { return linkForm().schema() }

func socketKey(v value) key {
	return key{name: socketName, fields: []string{"FrontEnds.SocketPaths"}, about: "Unix socket at which the guest's front end is met.", value: v}
}

// Names of keys of guests.
const (
	socketName   = "socket-path"
	fdName       = "fd"
	linkName     = "link"
	nameName     = "name"
	frontEndName = "front-end"
	deviceName   = "device"
)

// ownKeys are the keys of a guest that has a network of its own, beside that. They set the only one of Config.Guests.
func ownKeys() []key {
	return []key{
		{name: nameName, about: "Name of a guest that has a network of its own: what it is called by vring ctl and in the log. Without it, its address, its TAP device or its socket.",
			value: scalar[string]{plain[string](), func(c *daemon.Config) *string { return &c.Guests[0].Name }}},
		socketKey(scalar[string]{plain[string](), func(c *daemon.Config) *string { return &c.Guests[0].SocketPath }}),
		{name: frontEndName, fields: []string{"FrontEnds.Kind"}, about: "How the front end of a guest that has a network of its own passes frames, if not as those of the others.",
			value: scalar[*daemon.FrontEnd]{optional(frontEndKind()), func(c *daemon.Config) **daemon.FrontEnd { return &c.Guests[0].FrontEnd }}},
		linkKey(),
	}
}

// deviceKey is the name of the device of a guest that has a TAP network of its own.
func deviceKey() key {
	return key{name: deviceName, fields: []string{"TAP.Devices"}, options: []string{"tap"}, about: "Name of the TAP device.",
		value: scalar[string]{plain[string](), func(c *daemon.Config) *string {
			if len(c.TAP.Devices) == 0 {
				c.TAP.Devices = []string{""}
			}
			return &c.TAP.Devices[0]
		}}}
}

// ownNetwork is the network n as a guest has it for itself.
func ownNetwork(n network) network {
	if n.name == tapKey {
		n.keys = append([]key{deviceKey()}, n.keys...)
	}
	return n
}

// ownConfig is a configuration that has nothing but a guest with a network of its own, whose network and link are where their keys look for them.
func ownConfig(g daemon.Guest) *daemon.Config {
	c := &daemon.Config{Guests: []daemon.Guest{g}, NAT: g.NAT, TAP: g.TAP, Switch: g.Switch, Stub: g.Stub}
	if !g.Link.IsZero() {
		c.FrontEnds.Links = []netem.Link{g.Link}
	}
	return c
}

// ownGuest is the guest of ownConfig.
func ownGuest(c *daemon.Config) daemon.Guest {
	g := c.Guests[0]
	g.NAT, g.TAP, g.Switch, g.Stub = c.NAT, c.TAP, c.Switch, c.Stub
	if g.Link = (netem.Link{}); len(c.FrontEnds.Links) > 0 {
		g.Link = c.FrontEnds.Links[0]
	}
	return g
}

// devicesOf are the TAP devices of a configuration. One that has none gets them: a fault tells of it later.
func devicesOf(c *daemon.Config) *daemon.TAP {
	if c.TAP == nil {
		return new(daemon.TAP)
	}
	return c.TAP
}

// guestText is a text of each guest.
type guestText struct {
	at func(*daemon.Config) *[]string
}

func (g guestText) read(r *reader, k *key, n ast.Node, c *daemon.Config) {
	if text, ok := readOne(r, k, n, plain[string]()); ok {
		*g.at(c) = append(*g.at(c), text)
	}
}

// write writes all guests' texts as a list.
func (g guestText) write(c *daemon.Config) written {
	w := written{list: true}
	for _, text := range *g.at(c) {
		w.items = append(w.items, quoted(text, false))
	}
	return w
}

func (g guestText) schema() object { return plain[string]().schema() }

// tapKeys are the keys of a network of TAP devices.
func tapKeys() []key {
	return []key{
		{name: "bridge", fields: []string{"TAP.Bridge"}, about: "Bridge that the devices join.",
			value: scalar[string]{plain[string](), func(c *daemon.Config) *string { return &c.TAP.Bridge }}},
		{name: "vlan", fields: []string{"TAP.VLANs"}, about: "VLAN of the guests' untagged frames on the bridge, 1 to 4094.",
			value: scalar[uint16]{given[uint16]("1 to 4094; leave the key out for frames as they come"), func(c *daemon.Config) *uint16 { return &c.TAP.VLANs.Access }}},
		{name: "trunk", fields: []string{"TAP.VLANs"}, about: "VLANs of the bridge whose frames reach the guests with their tags, as in 20,30-39.",
			value: scalar[[]tap.VLANRange]{trunk(), func(c *daemon.Config) *[]tap.VLANRange { return &c.TAP.VLANs.Trunk }}},
		{name: "queues", fields: []string{"TAP.Queues"}, about: "Number of queue pairs that each guest can use.",
			value: scalar[int]{number[int](), func(c *daemon.Config) *int { return &c.TAP.Queues }}},
		{name: "mtu", fields: []string{"TAP.MTU"}, about: "MTU of the devices in bytes; without it a device is left alone.",
			value: scalar[int]{given[int]("a number of bytes; leave the key out to leave the device's MTU alone"), func(c *daemon.Config) *int { return &c.TAP.MTU }}},
		{name: "mac", fields: []string{"TAP.MAC"}, about: "MAC address of the host's end of the devices.",
			value: scalar[hardware]{stringer(parseMAC), func(c *daemon.Config) *hardware { return (*hardware)(&c.TAP.MAC) }}},
		{name: "reopen", fields: []string{"TAP.Reopen"}, about: "If a device is deleted, wait for it to come back instead of ending.",
			value: scalar[bool]{truth(), func(c *daemon.Config) *bool { return &c.TAP.Reopen }}},
	}
}

// switchKeys are the keys of a switch, and of guests' ports.
func switchKeys() []key {
	return []key{
		{name: "switch-name", fields: []string{"Switch.Name"}, about: "Name of the switch: all guests that name the same one are on it. Without it, the one without a name.",
			value: scalar[string]{plain[string](), func(c *daemon.Config) *string { return &c.Switch.Name }}},
		{name: "vlan", fields: []string{"Switch.VLANs"}, about: "VLAN of the guests' frames without a tag, 1 to 4094; 1 if there is no trunk either.",
			value: scalar[uint16]{given[uint16]("1 to 4094; leave the key out for VLAN 1, or with trunk for none"), func(c *daemon.Config) *uint16 { return &c.Switch.VLANs.Access }}},
		{name: "trunk", fields: []string{"Switch.VLANs"}, about: "VLANs whose frames the guests send and get with their tags, as in 20,30-39.",
			value: scalar[[]tap.VLANRange]{trunk(), func(c *daemon.Config) *[]tap.VLANRange { return &c.Switch.VLANs.Trunk }}},
		{name: "isolated", fields: []string{"Switch.Isolated"}, about: "Keep the guests from others on the switch that are isolated.",
			value: scalar[bool]{truth(), func(c *daemon.Config) *bool { return &c.Switch.Isolated }}},
		{name: "mac", fields: []string{"Switch.MAC"}, about: "The only MAC address that frames of the guest may come from, and nobody else's on the switch.",
			value: scalar[hardware]{stringer(parseMAC), func(c *daemon.Config) *hardware { return (*hardware)(&c.Switch.MAC) }}},
		{name: "ip", fields: []string{"Switch.IP"}, about: "The only addresses of IP that the guest may have, as in 192.0.2.1 or fe80::/64; frames that claim others do not pass.",
			value: list[netip.Prefix]{bound(), func(c *daemon.Config) *[]netip.Prefix { return &c.Switch.IP }}},
		{name: "max-macs", fields: []string{"Switch.MaxMACs"}, about: "How many MAC addresses frames of a guest may come from; 0 for no limit.",
			value: scalar[int]{number[int](), func(c *daemon.Config) *int { return &c.Switch.MaxMACs }}},
		{name: "flood", fields: []string{"Switch.Flood"}, about: "Frames per second that each guest on the switch may send to groups and to addresses that are not known; without it, 5000.",
			value: scalar[int]{given[int]("a number of frames per second; leave the key out for 5000"), func(c *daemon.Config) *int { return &c.Switch.Flood }}},
		{name: "ageing", fields: []string{"Switch.Ageing"}, about: "Seconds for which the switch knows a MAC address that is not seen; without it, 300.",
			value: scalar[int]{given[int]("a number of seconds; leave the key out for 300"), func(c *daemon.Config) *int { return &c.Switch.Ageing }}},
	}
}

// bound is an address of IP, or a network, that a guest is bound to.
func bound() form[netip.Prefix] {
	f := stringer(daemon.ParseBound)
	f.text = daemon.FormatBound
	return f
}

// stubKeys are the keys of test back ends.
func stubKeys() []key {
	mode := named(daemon.StubNull, daemon.StubEcho, daemon.StubReflect, daemon.StubSink, daemon.StubSource)
	return []key{
		{name: "mode", fields: []string{"Stub.Mode"}, about: "What to do with frames: null drops them, echo sends them back, reflect too with the addresses exchanged, sink checks those of a source, source sends frames of its own.",
			value: scalar[daemon.StubMode]{mode, func(c *daemon.Config) *daemon.StubMode { return &c.Stub.Mode }}},
		{name: "size", fields: []string{"Stub.Size"}, about: "Length in bytes of each frame of a source.",
			value: scalar[int]{number[int](), func(c *daemon.Config) *int { return &c.Stub.Size }}},
		{name: "sizes", fields: []string{"Stub.Sizes"}, about: "Lengths of frames of a source in turn, instead of size: " + daemon.SizesForm + ".",
			value: scalar[string]{plain[string](), func(c *daemon.Config) *string { return &c.Stub.Sizes }}},
		{name: "rate", fields: []string{"Stub.Rate"}, about: "Frames per second of a source; 0 sends as many as the guest takes.",
			value: scalar[uint64]{number[uint64](), func(c *daemon.Config) *uint64 { return &c.Stub.Rate }}},
	}
}

// network is one of what guests are connected to.
type network struct {
	name  string
	about string
	keys  []key
	has   func(*daemon.Config) bool
	add   func(*daemon.Config) // with what it has by default
}

// networks are all that there are.
func networks() []network {
	return []network{
		{natKey, "Give the guests a network of their own behind the host's.", natKeys(),
			func(c *daemon.Config) bool { return c.NAT != nil },
			func(c *daemon.Config) { n := daemon.DefaultNAT(); c.NAT = &n }},
		{tapKey, "Connect the guests to TAP devices of the host.", tapKeys(),
			func(c *daemon.Config) bool { return c.TAP != nil },
			func(c *daemon.Config) { t := daemon.DefaultTAP(); c.TAP = &t }},
		{switchKey, "Connect the guests to each other, by a switch in this process.", switchKeys(),
			func(c *daemon.Config) bool { return c.Switch != nil },
			func(c *daemon.Config) { c.Switch = new(daemon.Switch) }},
		{stubKey, "Serve the guests with test back ends.", stubKeys(),
			func(c *daemon.Config) bool { return c.Stub != nil },
			func(c *daemon.Config) { s := daemon.DefaultStub(); c.Stub = &s }},
	}
}

// base is what a file says that has no key, without a network.
func base() *daemon.Config {
	return &daemon.Config{Threads: daemon.Threads{Poll: daemon.DefaultPoll}, Log: daemon.Log{Format: daemon.FormatText}}
}

// defaults is what a file says that names all networks, and nothing else.
func defaults() *daemon.Config {
	c := base()
	for _, n := range networks() {
		n.add(c)
	}
	return c
}

// allKeys are the keys of all parts of the file.
func allKeys() []key {
	all := append([]key{{name: guestsKey, fields: []string{"Guests"}, about: "The guests, in order."}}, topKeys()...)
	all = append(append(append(all, guestKeys()...), ownKeys()...), deviceKey())
	for _, n := range networks() {
		all = append(all, n.keys...)
	}
	return all
}
