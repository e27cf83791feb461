package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/keeper"
	"github.com/vringnet/vring/internal/replacefile"
)

// keptState is what was changed while an earlier process served guests, and was kept.
type keptState struct {
	file    broker.StateFile
	state   *configfile.State
	dropped []configfile.Dropped // that does not count any more
}

// adoptState lets the service begin with what was kept, if anything is kept. A state that cannot be read, or that this process cannot begin with, is an
// error: without it, guests could go where they were not to go any more.
func (s *service) adoptState() error {
	if s.base.State == "" {
		return nil
	}
	path, err := filepath.Abs(s.base.State)
	if err != nil {
		return wrongUse(err)
	}
	kept, now, err := readState(path, &s.base)
	if err != nil {
		return wrongState(path, err)
	}
	if !kept.state.Empty() {
		if s.checked, err = now.Check(); err != nil {
			return wrongState(path, err)
		}
		s.config = s.checked.Config()
	}
	s.kept = kept
	return nil
}

// readState reads what was kept at path, and returns the configuration with which a process begins whose file or flags say base.
func readState(path string, base *daemon.Config) (*keptState, *daemon.Config, error) {
	text, err := replacefile.ReadPlace(path, broker.MaxState+1)
	if err != nil {
		return nil, nil, err
	}
	first, err := new(configfile.State).Marshal()
	if err != nil {
		return nil, nil, err
	}
	kept := &keptState{file: broker.StateFile{Path: path, Sum: broker.SumOf(text), First: first}, state: new(configfile.State)}
	if text != nil {
		if kept.state, err = configfile.ParseState(path, text); err != nil {
			return nil, nil, err
		}
	}
	now, dropped := kept.state.Apply(base)
	kept.dropped = dropped
	return kept, &now, base.CheckKept(&now)
}

// wrongState is what is wrong with what was kept at path.
func wrongState(path string, err error) error {
	faults := append(configfile.Flatten(err), fmt.Errorf("--state %s: vring does not begin with what was kept there, nor without it, since guests could go where they were "+
		"not to go any more; mend the file, or remove it to begin as the file or the flags say", path))
	return wrongUse(faults...)
}

// explain adds to an error of the start that a part of the configuration was kept, if so.
func (k *keptState) explain(err error) error {
	if k == nil || k.state.Empty() {
		return err
	}
	said := fmt.Errorf("a part of this configuration was changed before, and kept in --state %s; remove it to begin as the file or the flags say", k.file.Path)
	if use := new(usageError); errors.As(err, use) {
		return usageError{append(use.faults, said)}
	}
	return errors.Join(err, said)
}

// tell logs with what the process begins beside its file or its flags, and what of that does not count any more.
func (k *keptState) tell(log *slog.Logger, base, now *daemon.Config) {
	for _, d := range configfile.Diff(base, now) {
		log.Info("changed before, and kept", append([]any{"state", k.file.Path}, differenceArgs(&d)...)...)
	}
	for _, d := range k.dropped {
		log.Warn("what was changed before does not count any more", append([]any{"state", k.file.Path, "reason", d.Why}, differenceArgs(&d.Difference)...)...)
	}
}

// takeLinksDown takes the links down that were.
func (k *keptState) takeLinksDown(d *daemon.Daemon, log *slog.Logger) {
	for _, guest := range k.state.LinksDown {
		var none *daemon.NoGuestError
		switch err := d.SetLink(guest, false); {
		case errors.As(err, &none):
			log.Warn("what was changed before does not count any more", "state", k.file.Path, "reason", "there is no such guest", "guest", guest, "link", "down")
		case err != nil:
			log.Warn("a guest's link is down before it handles a frame", "guest", guest, "reason", err)
		default:
			log.Info("changed before, and kept", "state", k.file.Path, "guest", guest, "link", "down")
		}
	}
}

// keepPatience is how long the disk may take for the first state.
const keepPatience = time.Minute

// startKeeper keeps what is changed of a daemon from now on, until stop is called, if it is to be kept. What there is now is kept at once.
func (s *service) startKeeper(d *daemon.Daemon, log *slog.Logger) (k *keeper.Keeper, stop func(), err error) {
	if s.kept == nil {
		return nil, func() {}, nil
	}
	s.kept.tell(log, &s.base, &s.config)
	s.kept.takeLinksDown(d, log)
	k = keeper.New(keeper.Config{
		Path: s.kept.file.Path, Base: s.base, Now: func() (daemon.Config, []string) { return d.Config(), d.LinksDown() }, Write: d.WriteState,
		Told: func(err error) { tellKept(log, s.kept.file.Path, err) },
	})
	ctx, cancel := context.WithCancel(context.Background())
	go k.Run(ctx)
	stop = func() {
		cancel()
		k.Wait()
	}
	if err := k.Keep(keepPatience); err != nil {
		stop()
		return nil, nil, fmt.Errorf("--state: %w", err)
	}
	return k, stop, nil
}

// tellKept logs that what is changed is not kept any more, or that it is again.
func tellKept(log *slog.Logger, path string, err error) {
	if err == nil {
		log.Info("what was changed is kept again", "state", path)
		return
	}
	log.Error("what was changed is not kept, and is lost if vring ends now; it is tried again", "state", path, "reason", err)
}
