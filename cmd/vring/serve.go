package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/cmd/vring/internal/sandbox"
	"github.com/vringnet/vring/vhostuser"
)

// serveFlags are the flags of every command that serves a guest.
type serveFlags struct {
	socketPaths  []string
	fd           int
	client       bool
	access       socketFlags
	capabilities bool
	logLevel     string
	logFormat    string
	sandbox      string
	threads      threadFlags
	needs        sandbox.Config // what the command's network still opens when it is in the sandbox
}

func (f *serveFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringArrayVar(&f.socketPaths, "socket-path", nil, "unix socket for the front end; vring listens on it (repeatable: one for each guest)")
	flags.BoolVar(&f.client, "client", false, "connect to --socket-path instead, where the front end listens (QEMU's server=on)")
	f.access.add(flags)
	flags.IntVar(&f.fd, "fd", -1, "inherited unix socket, listening or connected, instead of --socket-path")
	flags.StringVar(&f.logLevel, "log-level", "info", "least level that is logged: debug, info, warn or error")
	flags.StringVar(&f.logFormat, "log-format", formatText, "form of the log on standard error: text or json")
	flags.StringVar(&f.sandbox, "sandbox", "on", "give up what is not needed any more once all is open: on, strict (fail where less can be had), off, or log (refuse nothing, the kernel logs)")
	f.threads.add(flags)
	flags.BoolVar(&f.capabilities, "print-capabilities", false, "print what this back end is, as JSON for management software, and exit")
}

// Values of --log-format.
const (
	formatText = "text"
	formatJSON = "json"
)

// check tells all that is wrong with the flags.
func (f *serveFlags) check() error {
	var level slog.Level
	var faults []error
	fail := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	switch {
	case len(f.socketPaths) == 0 && f.fd < 0:
		fail("one of --socket-path and --fd is needed, to meet the front end")
	case len(f.socketPaths) > 0 && f.fd >= 0:
		fail("--socket-path and --fd exclude each other")
	case len(f.socketPaths) == 0 && f.client:
		fail("--client needs --socket-path")
	}
	for i, path := range f.socketPaths {
		if slices.Contains(f.socketPaths[:i], path) {
			fail("--socket-path %s is given twice: each guest needs its own", path)
		}
		faults = append(faults, vhostuser.CheckSocketPath(path, f.client))
	}
	if level.UnmarshalText([]byte(f.logLevel)) != nil {
		fail("--log-level %q: want debug, info, warn or error", f.logLevel)
	}
	if f.logFormat != formatText && f.logFormat != formatJSON {
		fail("--log-format %q: want text or json", f.logFormat)
	}
	_, err := sandbox.ParseMode(f.sandbox)
	return errors.Join(append(faults, err, f.access.check(len(f.socketPaths) > 0 && !f.client), f.threads.check())...)
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
