package daemon

import (
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/netem"
	"github.com/vringnet/vring/vhostuser"
)

// Config is all that is configured of a process that serves guests. The tags of its fields are those of Fields.
type Config struct {
	FrontEnds FrontEnds
	Threads   Threads
	Log       Log
	Control   Control
	// Metrics is a port of TCP at which what was counted is told to anybody who reaches it; the zero value is none.
	Metrics netip.AddrPort `option:"metrics" unit:"[ADDRESS:]PORT" fixed:"the sandbox binds no port"`
	// SOCKS is a port of TCP at which programs that reach it connect into guests behind NAT, by SOCKS 5; the zero value is none.
	SOCKS netip.AddrPort `option:"socks" unit:"[ADDRESS:]PORT" fixed:"the sandbox binds no port"`
	// UI is a port of the loopback at which a web page shows the process and changes it, for who has the page's token; the zero value is none.
	UI netip.AddrPort `option:"ui" unit:"[ADDRESS:]PORT" fixed:"the process with the page is started once"`
	// State is a file in which what was changed while guests are served is kept, and with which the next process begins; "" for none.
	State string `option:"state" unit:"path" fixed:"the sandbox reaches no file"`
	// AuditLog is a file to which lines are added that say what guests behind NAT ask for, begin, are denied and have ended; "-" is standard
	// output, "" none.
	AuditLog string `option:"audit-log" unit:"path, or -" live:"the broker opens another file beside that of the start; what is recorded meanwhile waits"`
	// AuditOff is that no line is added to the audit log for now.
	AuditOff bool `option:"audit-off" live:"nothing is added to the file, which stays open"`
	// Learn is a file to which is written, as rules, what guests behind NAT do, while all is open to them that no rule by address closes; "" for none.
	Learn string `option:"learn" unit:"path" fixed:"the sandbox reaches no file, and connections that have begun were not looked at"`
	// Sandbox says whether the process gives its rights up, and what it does where it cannot.
	Sandbox sandbox.Mode `option:"sandbox" default:"on" fixed:"a process cannot leave its sandbox"`

	// One of them is what the guests of FrontEnds are connected to, all of them, or NAT and Switch together; none if there are no such
	// guests.
	NAT    *NAT
	TAP    *TAP
	Switch *Switch
	Stub   *Stub
	// Switches say what holds for whole switches, each once.
	Switches []SwitchSettings `option:"switches,switch-uplink" fixed:"the switch is made once, and its uplinks are opened before the sandbox is entered"`
	// Guests have a network of their own each. They come behind those of FrontEnds.
	Guests []Guest `option:"guests" live:"a guest is added or removed, and the others stay"`
}

// FrontEnds says where the guests' front ends are met.
type FrontEnds struct {
	// SocketPaths are unix sockets, one for each guest that shares its network, in order. At most 107 bytes each.
	SocketPaths []string `option:"socket-path" fixed:"guests that share a network are opened before the sandbox is entered"`
	// Client makes the process connect to the sockets of all guests, on which the front ends listen, again and again.
	Client bool `option:"client" fixed:"front ends were met the other way"`
	// SocketMode is who may connect to the sockets that are made: permission bits. 0 is 0600, the owner alone.
	SocketMode os.FileMode `option:"socket-mode" unit:"octal permissions" default:"0600" fixed:"the sandbox reaches no file"`
	// SocketGroup is the number of the group that the sockets' files are given to; nil leaves them with the process's own.
	SocketGroup *int `option:"socket-group" unit:"number or name of a group" fixed:"the sandbox reaches no file"`
	// FD is the number of a unix stream socket of one guest that this process has inherited, listening or connected, instead of
	// SocketPaths; nil for none. The daemon takes it over.
	FD *int `option:"fd" unit:"descriptor" fixed:"descriptors are inherited at the start"`
	// Links are how the links of the guests are that share a network, in their order; one that is missing, or zero, is not emulated.
	Links []netem.Link `option:"link" unit:"[PRESET,][in:|out:]KEY=VALUE,..." live:"frames that are under way keep their time"`
	// Kind is how all front ends pass frames.
	Kind FrontEnd `option:"front-end" unit:"vhost-user, stream, vfkit or bess" default:"vhost-user" fixed:"front ends were met as others"`
	// OneOff ends the service of each guest when its first front end has gone.
	OneOff bool `option:"one-off" fixed:"front ends were met without it"`
}

// Threads says how the guests' threads use processors.
type Threads struct {
	// Poll bounds how long a thread that has run out of work looks at its rings before it sleeps; 0 never looks. At most
	// MaxPoll.
	Poll time.Duration `option:"poll-us" unit:"microseconds" default:"50" live:"a thread reads it before it sleeps"`
	// CPUs are the processors that the threads of all guests are pinned to, in order and over again; none lets them roam.
	CPUs []int `option:"cpus" unit:"numbers of processors" fixed:"threads are pinned before the sandbox is entered"`
}

// Log says what is logged.
type Log struct {
	// Level is the lowest level that is logged: one of package slog's four.
	Level slog.Level `option:"log-level" unit:"debug, info, warn or error" default:"info" live:"the next line counts"`
	// Format is how whoever prints writes all of it: FormatText or FormatJSON. "" is FormatText.
	Format string `option:"log-format" unit:"text or json" default:"text" fixed:"whoever reads the log reads one format"`
}

// Formats of the log.
const (
	FormatText = "text"
	FormatJSON = "json"
)

const (
	// DefaultPoll is some times what it costs to be woken; docs/performance.md has figures.
	DefaultPoll = 50 * time.Microsecond
	// MaxPoll is a second. Whoever wants to poll for ever has a processor to give away.
	MaxPoll = time.Second
)

// Checked is a configuration that was found to be right, with what follows from it. Config.Check makes it.
type Checked struct {
	config Config
	shares *nat.Shares
	parts  []planned
}

// planned is a part of a configuration with what is to be opened for it.
type planned struct {
	part
	plan
}

// Config returns the configuration. It is the caller's own.
func (c *Checked) Config() Config { return clone(c.config) }

// Check returns the configuration for Open. It does not change any more if c does, or what c refers to. The error is all that is
// wrong, as faults and errors that networks tell themselves. Check looks at the host for what the configuration names: directories of sockets,
// processors, addresses.
func (c *Config) Check() (*Checked, error) {
	checked := &Checked{config: clone(*c)}
	wrong := checked.planAll()
	errs := multierror.Append(nil, c.checkFrontEnds(), c.checkKinds(), c.checkGuests(), c.checkSwitches(), c.checkUplinks(), c.checkLinks(), c.Threads.check(), c.Log.check(), c.checkControl(), c.checkMetrics(), c.checkSOCKS(), c.checkUI(), c.checkAudit(), c.checkLearn(), wrong)
	if err := errs.ErrorOrNil(); err != nil {
		return nil, err
	}
	return checked, nil
}

// planAll finds out what is to be opened for the guests, or all that is wrong with that.
func (c *Checked) planAll() error {
	parts := c.config.parts()
	c.shares = nat.NewShares(max(len(c.config.Sockets()), 1), MaxLater)
	if c.config.Learn != "" {
		c.shares.Learn()
	}
	var errs *multierror.Error
	var all []string
	lans := newLANs(parts)
	for _, p := range parts {
		plan, err := p.plan(c.shares, lans.taken(&p), false)
		errs = multierror.Append(errs, err)
		if err != nil {
			continue
		}
		errs = multierror.Append(errs, lans.add(&p, plan))
		c.parts, all = append(c.parts, planned{p, plan}), append(all, p.names(plan)...)
	}
	lans.introduce()
	_, differ := saidOfSwitches(c.config.Switches, parts)
	return multierror.Append(errs, checkNames(append(all, c.config.uplinkNames()...)), checkDevices(parts), differ).ErrorOrNil()
}

// group is the number of the sockets' group, 0 for the process's own.
func (f *FrontEnds) group() int {
	if f.SocketGroup == nil {
		return 0
	}
	return *f.SocketGroup
}

func (c *Config) checkFrontEnds() error {
	f := &c.FrontEnds
	var errs *multierror.Error
	if fault := c.checkSource(); fault != nil {
		errs = multierror.Append(errs, fault)
	}
	for i, path := range f.SocketPaths {
		switch {
		case path == "":
			errs = multierror.Append(errs, emptyFault(optionSocketPath))
			continue
		case slices.Contains(f.SocketPaths[:i], path):
			errs = multierror.Append(errs, twice(path))
		}
		errs = multierror.Append(errs, vhostuser.CheckSocketPath(path, f.Client))
	}
	if f.SocketMode&^os.ModePerm != 0 {
		errs = multierror.Append(errs, faultf("%s %#o: want octal permissions, as in 0660", optionSocketMode, uint32(f.SocketMode)))
	}
	if !c.listens() && (f.SocketMode != 0 || f.SocketGroup != nil) {
		errs = multierror.Append(errs, faultf("%s and %s need a socket that vring listens on: %s without %s",
			optionSocketMode, optionSocketGroup, optionSocketPath, optionClient))
	}
	return errs.ErrorOrNil()
}

// checkSource returns what is wrong with where front ends come from, nil if nothing is.
func (c *Config) checkSource() *Fault {
	f, shared := &c.FrontEnds, len(c.FrontEnds.SocketPaths) > 0 || c.FrontEnds.FD != nil
	switch {
	case f.FD != nil && *f.FD < 0:
		return faultf("%s %d: want the number of an open descriptor, such as 3", optionFD, *f.FD)
	case !shared && len(c.Guests) == 0:
		return faultf("no socket to meet the front end at; write %s PATH, or %s NUMBER", optionSocketPath, optionFD)
	case !shared && (c.NAT != nil || c.TAP != nil || c.Switch != nil || c.Stub != nil):
		return faultf("no guest shares the network: each has one of its own")
	case f.FD != nil && len(f.SocketPaths)+len(c.Guests) > 0:
		return faultf("%s and %s exclude each other", optionSocketPath, optionFD)
	case f.FD != nil && f.Client:
		return faultf("%s needs %s", optionClient, optionSocketPath)
	}
	return nil
}

func (t *Threads) check() error {
	return multierror.Append(nil, t.checkPoll(), t.checkCPUs()).ErrorOrNil()
}

func (t *Threads) checkPoll() error {
	if t.Poll < 0 || t.Poll > MaxPoll {
		return faultf("%s %d: want 0 to %d", optionPoll, t.Poll.Microseconds(), MaxPoll.Microseconds())
	}
	return nil
}

func (l *Log) check() error {
	return multierror.Append(nil, l.checkLevel(), l.checkFormat()).ErrorOrNil()
}

func (l *Log) checkLevel() error {
	if slices.Contains([]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}, l.Level) {
		return nil
	}
	return faultf("%s %s: want debug, info, warn or error", optionLogLevel, l.Level)
}

func (l *Log) checkFormat() error {
	if slices.Contains([]string{"", FormatText, FormatJSON}, l.Format) {
		return nil
	}
	return faultf("%s %q: want %s or %s", optionLogFormat, l.Format, FormatText, FormatJSON)
}

// checkCPUs returns what is wrong with the processors. The process must be allowed on all of them.
func (t *Threads) checkCPUs() error {
	if len(t.CPUs) == 0 {
		return nil
	}
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return faultf("%s: %w", optionCPUs, err)
	}
	for _, cpu := range t.CPUs {
		if cpu < 0 || !allowed.IsSet(cpu) {
			return faultf("%s %q: there is no processor %d for this process", optionCPUs, FormatCPUs(t.CPUs), cpu)
		}
	}
	return nil
}

// from returns the processors in the order in which threads get them, beginning with that of thread first.
func (t *Threads) from(first int) []int {
	if len(t.CPUs) == 0 {
		return nil
	}
	first %= len(t.CPUs)
	return slices.Concat(t.CPUs[first:], t.CPUs[:first])
}
