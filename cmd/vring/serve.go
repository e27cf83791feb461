package main

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/vhostuser"
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
	needs        sandbox.Config // what the command's network still opens when it is in the sandbox
	cmd          *cobra.Command // that the flags belong to
	duties       broker.Duties  // what it has the broker do then
	broker       *broker.Client
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

// check returns all that is wrong with the flags.
func (f *serveFlags) check() error {
	var errs *multierror.Error
	fail := func(format string, args ...any) { errs = multierror.Append(errs, fmt.Errorf(format, args...)) }
	switch {
	case f.given("fd") && f.fd < 0:
		fail("--fd %d: want the number of an open descriptor, such as 3", f.fd)
	case len(f.socketPaths) == 0 && f.fd < 0:
		fail("no socket to meet the front end at; write --socket-path PATH, or --fd NUMBER")
	case len(f.socketPaths) > 0 && f.fd >= 0:
		fail("--socket-path and --fd exclude each other")
	case len(f.socketPaths) == 0 && f.client:
		fail("--client needs --socket-path")
	}
	for i, path := range f.socketPaths {
		if path == "" {
			continue // see emptyValues
		}
		if slices.Contains(f.socketPaths[:i], path) {
			fail("--socket-path %s is given twice: each guest needs its own", path)
		}
		errs = multierror.Append(errs, vhostuser.CheckSocketPath(path, f.client))
	}
	if !slices.Contains(logLevels(), strings.ToLower(f.logLevel)) {
		fail("--log-level %q: want debug, info, warn or error", f.logLevel)
	}
	if f.logFormat != formatText && f.logFormat != formatJSON {
		fail("--log-format %q: want text or json", f.logFormat)
	}
	_, err := sandbox.ParseMode(f.sandbox)
	errs = multierror.Append(errs, err, f.access.check(len(f.socketPaths) > 0 && !f.client), f.threads.check())
	return multierror.Append(errs, emptyValues(f.cmd)...).ErrorOrNil()
}

// logLevels are the values of --log-level.
func logLevels() []string { return []string{"debug", "info", "warn", "error"} }

// begin builds the log, and what tells it of the broker. The flags were checked.
func (f *serveFlags) begin(w io.Writer) *slog.Logger {
	log := f.logger(w)
	f.broker = broker.NewClient(observeBroker(log))
	return log
}

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

// sockets returns what is to be served in order: the path of each guest's socket, or "" for the inherited one.
func (f *serveFlags) sockets() []string {
	if len(f.socketPaths) == 0 {
		return []string{""}
	}
	return f.socketPaths
}
