package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/internal/supervisor"
)

// service is what a command serves, wherever its configuration comes from.
type service struct {
	checked    *daemon.Checked
	config     daemon.Config // of checked
	base       daemon.Config // what the file or the flags say: config without what was kept
	kept       *keptState    // nil if nothing is kept
	queuesHint string        // how a user gives the guest more queue pairs
	stderr     io.Writer
	file       *sourceFile // that the configuration comes from; nil for flags
	events     *control.Events
	ready      func()        // is called when guests are served, in the process that the user has started; nil is nobody
	noHint     bool          // the user starts no QEMU by hand
	frames     string        // file that gets the frames of the guest; "" for none
	user       *sandbox.User // who is to serve the guests where root starts the program; nil is vring's own choice
}

func newService(checked *daemon.Checked, queuesHint string, stderr io.Writer, file *sourceFile) *service {
	return &service{
		checked: checked, config: checked.Config(), base: checked.Config(), queuesHint: queuesHint, stderr: stderr, file: file, events: control.NewEvents(),
	}
}

// serve serves guests until ctx ends. With a sandbox, the process that the user has started has another one do that: see
// package supervisor.
func (s *service) serve(ctx context.Context) error {
	if err := s.adoptState(); err != nil {
		return err
	}
	asked := supervisor.NewAsked()
	if s.file == nil {
		ctx = untilHangup(ctx)
	} else {
		signal.Notify(asked.Reload, unix.SIGHUP)
		defer signal.Stop(asked.Reload)
	}
	server, err := supervisor.Inherit()
	if err != nil {
		return err
	}
	if server == nil {
		return s.serveAsStarted(ctx, asked)
	}
	program, err := s.program()
	if err != nil {
		return err
	}
	return s.serveHere(inherit(ctx, server, &program, asked), program, asked, server.Release)
}

// serveAsStarted is serve in the process that the user has started, which starts that of the page.
func (s *service) serveAsStarted(ctx context.Context, asked supervisor.Asked) error {
	program, err := s.program()
	if err != nil {
		return err
	}
	tellPage, err := startPage(&s.config, program.Log)
	if err != nil {
		return err
	}
	ready := func() {
		tellPage()
		if s.ready != nil {
			s.ready()
		}
	}
	if isSupervised(&s.config, s.stderr) {
		return s.supervise(ctx, program, ready)
	}
	signal.Notify(asked.Status, unix.SIGUSR1)
	defer signal.Stop(asked.Status)
	return s.serveHere(ctx, program, asked, ready)
}

// program is what the daemon gets from this program.
func (s *service) program() (daemon.Program, error) {
	level := new(slog.LevelVar)
	out := teller{log: s.logger(level), out: s.console(), events: s.events}
	argv, err := brokerProgram()
	var state *broker.StateFile
	if s.kept != nil {
		state = &s.kept.file
	}
	return daemon.Program{
		ConfigFile: s.file.path(), ChangesForwards: s.file != nil || s.config.HasControl(), Tell: out.tell, Log: out.log, Level: level,
		Broker: broker.Program(argv...), QueuesHint: s.queuesHint, State: state, AuditStart: s.base.AuditLog,
	}, err
}

// logger builds the log. level may be changed later.
func (s *service) logger(level *slog.LevelVar) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if isJournal(s.stderr) {
		options.ReplaceAttr = withoutTime // the journal has the time of each line
	}
	if s.config.Log.Format == daemon.FormatJSON {
		return slog.New(slog.NewJSONHandler(s.stderr, options))
	}
	return slog.New(slog.NewTextHandler(s.stderr, options))
}

// console is where reports go.
func (s *service) console() console { return newConsole(s.stderr, s.config.Log.Format) }

// serveHere serves guests in this process. It calls isOpen when all is open, and logs what that is: until then an error is all
// that is printed.
func (s *service) serveHere(ctx context.Context, program daemon.Program, asked supervisor.Asked, isOpen func()) error {
	askedQEMU := func() (none qemuHint) { return none }
	if !s.noHint {
		askedQEMU = startAsking(&s.config) // from within the sandbox no program can be run
	}
	d, err := daemon.Open(s.checked, program)
	hint := askedQEMU()
	if err != nil {
		return s.kept.explain(asUse(err))
	}
	frames, err := openFrames(s.frames, program.Log)
	if err != nil {
		return errors.Join(err, d.Close())
	}
	program.Log.Info("vring starts", "version", programVersion())
	isOpen()
	s.describe(program.Log, d.Networks())
	if err := d.Confine(); err != nil {
		return spell(err)
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	kept, stopKeeper, err := s.startKeeper(d, program.Log)
	if err != nil {
		return errors.Join(err, d.Close())
	}
	defer stopKeeper()
	follow := newReloader(s, d, program.Log, kept)
	stopControl := serveControl(d, program.Log, follow, s.events, end)
	defer stopControl()
	stopMetrics := serveMetrics(d, program.Log)
	defer stopMetrics()
	stopSOCKS := serveSOCKS(d, program.Log)
	defer stopSOCKS()
	endFrames, err := frames.begin(d)
	if err != nil {
		return errors.Join(err, d.Close())
	}
	defer endFrames()
	out := s.console()
	hint.print(out)
	stop := onRequest(asked.Status, func() { printStatus(out, d) })
	defer stop()
	stopReloading := onRequest(asked.Reload, follow.reloadAndKeep)
	defer stopReloading()
	return spell(d.Serve(ctx))
}

// describe logs what the guests' networks are.
func (s *service) describe(log *slog.Logger, guests []daemon.Network) {
	for _, of := range byNetwork(guests) {
		switch first := of[0]; {
		case first.NAT != nil:
			describeNAT(logOf(log, first), s.config.NATOf(first.Own), of)
			if first.Switch != nil {
				logSwitches(logOf(log, first), of)
			}
		case first.TAP != nil:
			logTAPs(log, of)
		case first.Switch != nil:
			logSwitches(logOf(log, first), of)
		}
	}
}

// byNetwork divides guests into those that share a network and each that has its own.
func byNetwork(guests []daemon.Network) (all [][]daemon.Network) {
	for _, g := range guests {
		if n := len(all); n > 0 && g.Own == "" {
			all[n-1] = append(all[n-1], g) // those that share one come first
			continue
		}
		all = append(all, []daemon.Network{g})
	}
	return all
}

// logOf is the log of what a guest's own network is.
func logOf(log *slog.Logger, n daemon.Network) *slog.Logger {
	if n.Own == "" {
		return log
	}
	return log.With("of", n.Guest)
}
