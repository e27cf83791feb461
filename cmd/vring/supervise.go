package main

import (
	"context"
	"io"
	"os"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/internal/servicemanager"
	"github.com/vringnet/vring/internal/supervisor"
)

// isSupervised reports whether guests are served by another process than the one that the user has started. The other one
// writes to the standard error of this one: where the output goes elsewhere, there is none.
func isSupervised(c *daemon.Config, stderr io.Writer) bool {
	return (c.Sandbox == sandbox.On || c.Sandbox == sandbox.Strict) && stderr == io.Writer(os.Stderr)
}

// supervise has another process serve guests, until ctx ends, and calls ready when it does. The error is how that process has ended, if not
// well.
func (s *service) supervise(ctx context.Context, program daemon.Program, ready func()) error {
	argv, err := brokerProgram()
	if err != nil {
		return err
	}
	manager, err := servicemanager.Connect()
	if err != nil {
		program.Tell(daemon.ManagerUnreachable{Err: err})
	}
	status, err := supervisor.Run(ctx, supervisor.Config{
		Server: append([]string{argv[0]}, os.Args[1:]...), Broker: argv, FD: s.config.FrontEnds.FD,
		Sandbox: s.config.Sandbox, Manager: manager,
		Isolation: supervisor.Isolation{OneUser: needsHostUsers(&s.config), Root: needsRoot(&s.config), User: s.user},
		Reloads:   s.file != nil, Ready: ready,
	})
	if err == nil && status != exitOK {
		return toldError{status}
	}
	return err
}

// needsHostUsers returns why the server may not be in a user namespace, "" if it may.
func needsHostUsers(c *daemon.Config) string {
	switch {
	case c.FrontEnds.SocketGroup != nil:
		return "--socket-group names a group that a user namespace does not know"
	case c.HasTAP():
		return "the kernel lets no user namespace join a TAP device of the host's"
	}
	return ""
}

// needsRoot returns why the server stays root's where root starts it, "" if it need not.
func needsRoot(c *daemon.Config) string {
	if c.Reopens() {
		return "--reopen joins TAP devices that come back, and those of root only as root"
	}
	return ""
}

// toldError is that the process which serves guests has failed, and has told why.
type toldError struct{ status int }

func (toldError) Error() string { return "the process that serves guests has failed" }

// inherit lets a daemon use what this process has from its supervisor. The context that it returns ends with ctx, or when the
// supervisor says so.
func inherit(ctx context.Context, s *supervisor.Server, program *daemon.Program, asked supervisor.Asked) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	s.Listen(asked, cancel)
	program.Broker, program.Manager = s.Broker, s.Tell
	program.OwnMounts, program.Shares = s.Shares == "", s.Shares
	program.User, program.StaysRoot = s.User, s.StaysRoot
	return ctx
}
