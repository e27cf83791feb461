package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/sandbox"
)

// queuesHint is what to do if a front end wants more queue pairs than there are.
const queuesHint = "--queues N gives the guest more"

// serveFlags are the flags of every command that serves a guest.
type serveFlags struct {
	socketPaths  []string
	fd           int
	client       bool
	access       socketFlags
	queuesHint   string // how a user gives the guest more queue pairs
	capabilities bool
	logLevel     string
	logFormat    string
	sandbox      string
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
	flags.StringVar(&f.logLevel, "log-level", "info", "lowest level to log: debug, info, warn or error")
	flags.StringVar(&f.logFormat, "log-format", formatText, "format of all output on standard error: text or json")
	flags.StringVar(&f.sandbox, "sandbox", "on", "drop privileges after start-up: on, strict (fail if less is possible here), off, or log (allow everything; the kernel logs what would be refused)")
	f.threads.add(flags)
	flags.BoolVar(&f.capabilities, "print-capabilities", false, capabilitiesUsage)
}

// Values of --log-format.
const (
	formatText = "text"
	formatJSON = "json"
)

// config turns the flags into a configuration, without what the guests are connected to. The error holds all that cannot be
// read.
func (f *serveFlags) config() (daemon.Config, error) {
	var errs [4]error
	c := daemon.Config{FrontEnds: daemon.FrontEnds{SocketPaths: f.socketPaths, Client: f.client}}
	if f.given("fd") {
		c.FrontEnds.FD = &f.fd
	}
	c.Sandbox, errs[0] = sandbox.ParseMode(f.sandbox)
	errs[1] = f.access.set(&c.FrontEnds)
	c.Threads, errs[2] = f.threads.config()
	errs[3] = f.checkLog()
	return c, multierror.Append(nil, errs[:]...).ErrorOrNil()
}

// checkLog returns what is wrong with the flags of the log.
func (f *serveFlags) checkLog() error {
	var errs *multierror.Error
	if !slices.Contains(logLevels(), strings.ToLower(f.logLevel)) {
		errs = multierror.Append(errs, fmt.Errorf("--log-level %q: want debug, info, warn or error", f.logLevel))
	}
	if f.logFormat != formatText && f.logFormat != formatJSON {
		errs = multierror.Append(errs, fmt.Errorf("--log-format %q: want text or json", f.logFormat))
	}
	return errs.ErrorOrNil()
}

// check returns all that is wrong: what could not be read, what the configuration says of itself, and flags without a value.
func (f *serveFlags) check(c *daemon.Config, unread ...error) error {
	faults := unread
	for _, err := range flatten(c.Check()) {
		if fault := new(daemon.Fault); !errors.As(err, &fault) || !fault.Empty { // see emptyValues
			faults = append(faults, err)
		}
	}
	return wrongUse(append(faults, emptyValues(f.cmd)...)...)
}

// logLevels are the values of --log-level.
func logLevels() []string { return []string{"debug", "info", "warn", "error"} }

// logger builds the log. The flags were checked.
func (f *serveFlags) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(f.logLevel))
	options := &slog.HandlerOptions{Level: level}
	if isJournal(w) {
		options.ReplaceAttr = withoutTime // the journal has the time of each line
	}
	if f.logFormat == formatJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// serve serves guests until ctx ends. When all is open, describe logs what was opened: until then an error is all that is
// printed.
func (f *serveFlags) serve(ctx context.Context, c daemon.Config, stderr io.Writer, describe func(*slog.Logger, *daemon.Daemon)) error {
	status := make(chan os.Signal, 1)
	signal.Notify(status, unix.SIGUSR1)
	defer signal.Stop(status)

	out := teller{f.logger(stderr), f.console(stderr)}
	program, err := brokerProgram()
	if err != nil {
		return err
	}
	askedQEMU := f.startAsking(c.QueuePairs()) // from within the sandbox no program can be run
	d, err := daemon.Open(c, daemon.Program{Tell: out.tell, Log: out.log, Broker: program, QueuesHint: f.queuesHint})
	hint := askedQEMU()
	if err != nil {
		return asUse(err)
	}
	out.log.Info("vring starts", "version", programVersion())
	describe(out.log, d)
	if err := d.Confine(); err != nil {
		return spell(err)
	}
	hint.print(out.out)
	stop := printOnSignal(status, out.out, d)
	defer stop()
	return spell(d.Serve(ctx))
}
