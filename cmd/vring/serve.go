package main

import (
	"context"
	"errors"
	"slices"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/netem"
)

// queuesHint is what to do if a front end wants more queue pairs than there are.
const queuesHint = "--queues N gives the guest more"

// serveFlags are the flags of every command that serves a guest.
type serveFlags struct {
	socketPaths  []string
	fd           int
	frontEnd     string
	oneOff       bool
	links        []string
	client       bool
	access       socketFlags
	queuesHint   string // how a user gives the guest more queue pairs
	capabilities bool
	logLevel     string
	logFormat    string
	sandbox      string
	control      string
	metrics      string
	auditLog     string
	auditOff     bool
	learn        string
	socks        string
	ui           string
	state        string
	threads      threadFlags
	cmd          *cobra.Command // that the flags belong to
}

// given reports whether a flag was set, be it to its default.
func (f *serveFlags) given(name string) bool { return f.cmd.Flags().Changed(name) }

func (f *serveFlags) add(cmd *cobra.Command) {
	f.cmd = cmd
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringArrayVar(&f.socketPaths, "socket-path", nil, "unix socket on which vring listens for the front end (repeatable: one for each guest)")
	flags.BoolVar(&f.client, "client", false, "connect to --socket-path instead of listening: the front end listens (in QEMU: server=on)")
	f.access.add(flags)
	flags.IntVar(&f.fd, "fd", -1, "number of an inherited unix socket, listening or connected, instead of --socket-path")
	flags.StringVar(&f.frontEnd, "front-end", daemon.FrontEndVhostUser.String(), "how front ends pass frames: vhost-user, or without sharing the guest's memory stream (QEMU's -netdev stream), bess (User-mode Linux), vfkit (datagrams)")
	flags.BoolVar(&f.oneOff, "one-off", false, "stop serving a guest when its first front end has gone")
	flags.StringArrayVar(&f.links, "link", nil, "emulate a link between the guest and its network: a preset or keys, as in lte or delay=40ms,jitter=5ms,loss=1%,in:rate=20mbit,out:rate=5mbit; vring config links lists presets and keys (repeatable: once for all guests, or once for each in order)")
	flags.StringVar(&f.logLevel, "log-level", "info", "lowest level to log: debug, info, warn or error")
	flags.StringVar(&f.logFormat, "log-format", daemon.FormatText, "format of all output on standard error: text or json")
	flags.StringVar(&f.sandbox, "sandbox", "on", "drop privileges after start-up: on, strict (fail if less is possible here), off, or log (allow everything; the kernel logs what would be refused)")
	flags.StringVar(&f.control, "control", "", "unix socket at which vring ctl and other programs of this user control this one; or off (default: the first --socket-path with .ctl, unless --client or --fd says where the front end is)")
	flags.StringVar(&f.metrics, "metrics", "", "TCP port, as in 9100 on the loopback or 192.0.2.1:9100 on that address, at which Prometheus reads what was counted, without a password")
	flags.StringVar(&f.socks, "socks", "", "TCP port, as in 1080 on the loopback, at which programs connect into guests behind NAT by SOCKS 5, without a password: to a guest by name, or to an address of its network")
	flags.StringVar(&f.ui, "ui", "", "TCP port of the loopback, as in 8000, at which a web page shows this vring; the log has its address, with a token")
	flags.StringVar(&f.state, "state", "", "file in which what is changed by vring ctl is kept, and with which the next start begins")
	flags.StringVar(&f.auditLog, "audit-log", "", "file to which lines of JSON are added that say what guests behind NAT ask for, begin, are denied and have ended; or - for standard output")
	flags.BoolVar(&f.auditOff, "audit-off", false, "add no line to --audit-log until vring ctl audit on")
	flags.StringVar(&f.learn, "learn", "", "file for rules that would have sufficed for what guests behind NAT did, as a part of a file of vring serve; meanwhile no name is refused to them")
	f.threads.add(flags)
	flags.BoolVar(&f.capabilities, "print-capabilities", false, capabilitiesUsage)
}

// config turns the flags into a configuration, without what the guests are connected to. The error holds all that cannot be
// read.
func (f *serveFlags) config() (daemon.Config, error) {
	var errs [9]error
	c := daemon.Config{FrontEnds: daemon.FrontEnds{SocketPaths: f.socketPaths, Client: f.client, OneOff: f.oneOff}, Control: daemon.ParseControl(f.control), State: f.state, AuditLog: f.auditLog, AuditOff: f.auditOff, Learn: f.learn}
	if f.given("fd") {
		c.FrontEnds.FD = &f.fd
	}
	c.FrontEnds.Kind, errs[7] = daemon.ParseFrontEnd(f.frontEnd)
	c.FrontEnds.Links, errs[8] = f.parseLinks()
	c.Sandbox, errs[0] = sandbox.ParseMode(f.sandbox)
	errs[1] = f.access.set(&c.FrontEnds)
	c.Threads, errs[2] = f.threads.config()
	c.Log, errs[3] = daemon.ParseLogLevel(f.logLevel)
	c.Log.Format = f.logFormat
	if f.metrics != "" {
		c.Metrics, errs[4] = daemon.ParseMetrics(f.metrics)
	}
	if f.socks != "" {
		c.SOCKS, errs[5] = daemon.ParseSOCKS(f.socks)
	}
	if f.ui != "" {
		c.UI, errs[6] = daemon.ParseUI(f.ui)
	}
	return c, multierror.Append(nil, errs[:]...).ErrorOrNil()
}

// parseLinks reads the guests' links. One is that of all guests.
func (f *serveFlags) parseLinks() (links []netem.Link, err error) {
	var errs *multierror.Error
	for _, text := range f.links {
		l, err := daemon.ParseLink(text)
		links, errs = append(links, l), multierror.Append(errs, err)
	}
	if len(links) == 1 {
		links = slices.Repeat(links, max(len(f.socketPaths), 1))
	}
	return links, errs.ErrorOrNil()
}

// check returns what daemon.Open opens, or all that is wrong: what could not be read, what the configuration says of itself, and
// flags without a value.
func (f *serveFlags) check(c *daemon.Config, unread ...error) (*daemon.Checked, error) {
	checked, err := c.Check()
	faults := unread
	for _, err := range configfile.Flatten(err) {
		if fault := new(daemon.Fault); !errors.As(err, &fault) || !fault.Empty { // see emptyValues
			faults = append(faults, err)
		}
	}
	return checked, wrongUse(append(faults, emptyValues(f.cmd)...)...)
}

// serve serves the guests of the configuration that the flags say, until ctx ends.
func (f *serveFlags) serve(ctx context.Context, whole func() (daemon.Config, error)) error {
	c, unread := whole()
	checked, err := f.check(&c, unread)
	if err != nil {
		return err
	}
	return newService(checked, f.queuesHint, f.cmd.ErrOrStderr(), nil).serve(ctx)
}
