package labrun

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
)

// errEnding is that a lab is taken down.
var errEnding = errors.New("the lab is being taken down; start it again when that is over")

// apply lets the lab be as a plan says, as far as it can. After an error it is as it was.
func (k *keeper) apply(p *Plan) (*Applied, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.ending:
		return nil, errEnding
	case k.plan == nil:
		return k.begin(p)
	case k.plan.File != p.File:
		return nil, fmt.Errorf("a lab of this name is up, from the file %s; call this one otherwise by --name", k.plan.File)
	}
	done := new(Applied)
	if err := k.reload(p, done); err != nil {
		return nil, err
	}
	k.stopOthers(p, done)
	err := k.startGuests(p, done)
	k.plan = p
	return done, err
}

// begin starts the lab.
func (k *keeper) begin(p *Plan) (*Applied, error) {
	if err := k.writeConfig(p.Config); err != nil {
		return nil, err
	}
	words := append(slices.Clone(k.program), "serve", k.config())
	vring, err := start(Program{Name: vringName, Words: words, Restart: "on-failure"}, filepath.Dir(p.File), k.Log(vringName), k.tell)
	if err != nil {
		return nil, err
	}
	k.vring = vring
	if err := k.awaitVring(p.Control); err != nil {
		return nil, errors.Join(err, k.stopHere())
	}
	done := &Applied{First: true}
	if err := k.startGuests(p, done); err != nil {
		return nil, errors.Join(err, k.stopHere())
	}
	k.plan = p
	return done, nil
}

// writeConfig replaces the file of vring.
func (k *keeper) writeConfig(text string) error {
	next := k.config() + ".new"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(next, k.config())
}

// awaitVring waits until vring serves guests.
func (k *keeper) awaitVring(socket string) error {
	ctx, cancel := context.WithTimeout(context.Background(), openPatience)
	defer cancel()
	client := control.NewClient(socket)
	defer client.Close()
	for client.Do(ctx, http.MethodGet, "/v1/log-level", nil, new(api.LogLevel)) != nil {
		if s := k.vring.now(); s.Ended != "" {
			k.vring.askToStop()
			<-k.vring.done
			return fmt.Errorf("vring has ended before the lab was up (%s):\n%s", s.Ended, strings.TrimSpace(tail(s.Log)))
		}
		if ctx.Err() != nil {
			return fmt.Errorf("vring does not answer for %v", openPatience)
		}
		time.Sleep(lookPause)
	}
	return nil
}

// reload lets vring adopt the configuration of a plan. After an error it has the one of before.
func (k *keeper) reload(p *Plan, done *Applied) error {
	if p.Config == k.plan.Config {
		return nil
	}
	if err := k.writeConfig(p.Config); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), openPatience)
	defer cancel()
	client := control.NewClient(p.Control)
	defer client.Close()
	var changed api.Changed
	if err := client.Do(ctx, http.MethodPost, "/v1/reload", nil, &changed); err != nil {
		return errors.Join(refusal(err), k.writeConfig(k.plan.Config))
	}
	for _, d := range changed.Changed {
		done.Changed = append(done.Changed, d.Key)
	}
	return nil
}

// refusal is why vring does not adopt a configuration, each reason by itself. Lines of the file that it reads tell nobody anything.
func refusal(err error) error {
	refused := new(control.RefusedError)
	if !errors.As(err, &refused) || len(refused.Reason.Faults) == 0 {
		return err
	}
	var faults []error
	for _, f := range refused.Reason.Faults {
		faults = append(faults, errors.New(f.Text))
	}
	return errors.Join(faults...)
}

// stopOthers stops programs of guests that a plan does not have.
func (k *keeper) stopOthers(p *Plan, done *Applied) {
	var gone []*running
	for name, r := range k.guests {
		if !slices.ContainsFunc(p.Guests, func(g Program) bool { return g.Name == name }) {
			r.askToStop()
			gone, done.Stopped = append(gone, r), append(done.Stopped, name)
			delete(k.guests, name)
		}
	}
	for _, r := range gone {
		<-r.done
	}
	slices.Sort(done.Stopped)
}

// startGuests starts the programs of a plan that do not run.
func (k *keeper) startGuests(p *Plan, done *Applied) error {
	for _, g := range p.Guests {
		switch r := k.guests[g.Name]; {
		case r != nil && !r.over():
			if !r.Program.same(&g) {
				done.Kept = append(done.Kept, g.Name)
			}
			continue
		case r != nil:
			<-r.done
		}
		r, err := start(g, filepath.Dir(p.File), k.Log(g.Name), k.tell)
		if err != nil {
			return err
		}
		k.guests[g.Name], done.Started = r, append(done.Started, g.Name)
	}
	return nil
}

// tell logs how a program is.
func (k *keeper) tell(s ProgramStatus) {
	if s.PID != 0 {
		k.log.Info("started", "program", s.Name, "pid", s.PID, "times", s.Started)
		return
	}
	k.log.Info("does not run", "program", s.Name, "how", s.Ended, "again", s.Again)
}

// stopAll ends the guests, and vring behind them. Nothing is started any more.
func (k *keeper) stopAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	_ = k.stopHere()
}

// stopHere is stopAll for who has the lock. The error is always nil: what does not end is killed.
func (k *keeper) stopHere() error {
	k.ending = true
	for _, r := range k.guests {
		r.askToStop()
	}
	for _, r := range k.guests {
		<-r.done
	}
	if k.vring != nil {
		k.vring.askToStop()
		<-k.vring.done
	}
	return nil
}

// status is how the lab is.
func (k *keeper) status() *Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := &Status{PID: os.Getpid()}
	if k.plan != nil {
		s.File, s.Control = k.plan.File, k.plan.Control
		for _, g := range k.plan.Guests {
			if r := k.guests[g.Name]; r != nil {
				s.Guests = append(s.Guests, r.now())
			}
		}
	}
	if k.vring != nil {
		s.Vring = k.vring.now()
	}
	return s
}
