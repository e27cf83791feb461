package main

import (
	"context"
	"iter"
	"log/slog"
	"strings"
	"time"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/daemon"
)

// teller prints what happens to a daemon. Its methods may be called by several goroutines.
type teller struct {
	log    *slog.Logger
	out    console
	events *control.Events // which clients of the control socket follow
}

// tell prints an event.
func (t teller) tell(e daemon.Event) {
	t.events.Tell(e)
	switch e := e.(type) {
	case daemon.ManagerUnreachable:
		t.log.Warn("the service manager cannot be told that vring is ready", "err", e.Err)
	case daemon.RunsAsRoot:
		t.log.Info("vring serves guests as root: its sandbox is all that stands between a guest that breaks out and the files and "+
			"processes of root; a user of its own, such as User= in a systemd unit, is a second wall", "reason", e.Reason)
	case daemon.Ready:
		t.ready(e)
	case daemon.Notice:
		t.notice(e)
	case daemon.GuestAdded:
		t.log.Info("guest added", "guest", e.Guest, "socket", e.Socket)
	case daemon.GuestRemoved:
		t.log.Info("guest removed", "guest", e.Guest)
	case daemon.GuestStopped:
		t.of(e.Guest).Error("guest service stopped", "err", spell(e.Err))
	case daemon.Counted:
		t.counted(e)
	case daemon.Traffic:
		t.traffic(e)
	case daemon.Tested:
		t.tested(e)
	case daemon.BrokerEnded:
		t.log.Error("the process that does what is not possible in the sandbox has ended; the guests are served, but " +
			undone(&e.Duties) + " until vring is started again")
	case daemon.ControlMissing:
		t.log.Warn("there is no control socket; --control PATH makes one elsewhere, and --control off does without", "reason", e.Err)
	case daemon.AuditNotReopened:
		t.log.Error("the audit log cannot be opened again, and goes on in the file of before", "file", e.Path, "reason", e.Err)
	case daemon.AuditTrouble:
		t.auditTrouble(e)
	case daemon.Learned:
		t.learned(e)
	case daemon.ResolversUnreadable:
		t.log.Warn("the host's resolvers cannot be read; until they can, guests' names are not resolved", "reason", e.Reason)
	}
}

// learned says that what guests did was written as rules, or that it could not be.
func (t teller) learned(e daemon.Learned) {
	if e.Err != nil {
		t.log.Error("what was learned cannot be written; it is tried again", "file", e.Path, "reason", e.Err)
		return
	}
	t.log.Info("what guests did was written as rules", "file", e.Path, "rules", e.Rules)
}

// auditTrouble says that the audit log cannot be written, or that it can be again.
func (t teller) auditTrouble(e daemon.AuditTrouble) {
	if e.Err == nil {
		t.log.Info("the audit log goes on; it says how many lines are missing", "file", e.Path)
		return
	}
	t.log.Error("the audit log cannot be written; guests are served, and lines are lost until it can be", "file", e.Path, "reason", e.Err)
}

// of is the log of a guest, "" for the only one.
func (t teller) of(guest string) *slog.Logger {
	if guest == "" {
		return t.log
	}
	return t.log.With("guest", guest)
}

// ready says that a front end may come.
func (t teller) ready(e daemon.Ready) {
	if e.Socket == "" {
		t.log.Info("ready", "fd", e.FD)
		return
	}
	t.log.Info("ready", "socket", e.Socket)
}

func (t teller) notice(n daemon.Notice) {
	var args []any
	if n.Key != "" {
		args = append(args, n.Key, n.Value)
	}
	if n.More > 0 {
		args = append(args, "more_like_this", n.More)
	}
	t.of(n.Guest).Log(context.Background(), slog.Level(n.Level), n.Message, args...)
}

// counted logs what was counted for one queue pair.
func (t teller) counted(c daemon.Counted) {
	args := []any{"uptime", c.Uptime.Round(time.Second)}
	if c.Pairs > 1 {
		args = append(args, "pair", c.Pair)
	}
	args = append(args, nonZero(c.Report.All())...)
	if c.Dropped != 0 {
		args = append(args, "dropped_while_disabled", c.Dropped)
	}
	if c.Lost != 0 {
		args = append(args, "log_lines_lost", c.Lost)
	}
	t.of(c.Guest).Info("counters", args...)
}

// nonZero returns the counters that are not zero as arguments for a log line.
func nonZero(counters iter.Seq2[string, uint64]) []any {
	var args []any
	for name, n := range counters {
		if n != 0 {
			args = append(args, name, n)
		}
	}
	return args
}

// undone tells what does not happen without the broker.
func undone(d *broker.Duties) string {
	var lost []string
	for _, duty := range []struct {
		has  bool
		lost string
	}{
		{d.Read != "", "changes of " + d.Read + " are not seen"},
		{len(d.Dial) > 0, "no front end is dialled"},
		{d.Removes() || d.Control != "", "the files of sockets are not removed"},
		{d.Control != "", "the control socket accepts nobody"},
		{len(d.Configs) > 0, "the host's interfaces are not set up, and nothing is undone"},
	} {
		if duty.has {
			lost = append(lost, duty.lost)
		}
	}
	return strings.Join(lost, ", ")
}
