package bootcheck

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// run is one check of a machine.
type run struct {
	Config
	machine *machine
	host    *sink
	dir     string // of the sockets
	steps   []Step
}

// all makes all checks, as far as the guest is there to be checked.
func (r *run) all(ctx context.Context) {
	for _, step := range []struct {
		what string
		do   func(context.Context) (string, error)
	}{
		{"lease", r.lease},
		{"queue pairs", r.queues},
		{"stream out", r.streamOut},
		{"stream in", r.streamIn},
		{"interrupts", r.interrupts},
		{"forward added", r.addForward},
		{"driver again", r.rebind},
	} {
		if ctx.Err() != nil {
			return
		}
		r.tell("checks: " + step.what)
		found, err := step.do(ctx)
		r.steps = append(r.steps, Step{What: step.what, Found: found, Err: err})
	}
	if conn, err := ask(r.machine.guest, requestEnd); err == nil {
		discard(conn)
		_ = conn.Close()
	}
}

func (r *run) lease(context.Context) (string, error) {
	g, err := describe(r.machine.guest)
	return fmt.Sprintf("%s, router %s, MTU %d, Linux %s", g.Address, g.Router, g.MTU, g.Release), err
}

func (r *run) queues(context.Context) (string, error) {
	g, err := describe(r.machine.guest)
	if err == nil && g.QueuePairs != queuePairs {
		err = fmt.Errorf("the guest uses %d of %d", g.QueuePairs, queuePairs)
	}
	return fmt.Sprint(g.QueuePairs), err
}

// interrupts tells how the guest is woken: by interrupts of its own for each queue (MSI-X), or by one for all.
func (r *run) interrupts(context.Context) (string, error) {
	g, err := describe(r.machine.guest)
	if err != nil {
		return "", err
	}
	var sum uint64
	var counts []string
	for _, name := range slices.Sorted(maps.Keys(g.Interrupts)) {
		sum += g.Interrupts[name]
		counts = append(counts, fmt.Sprintf("%s %d", name, g.Interrupts[name]))
	}
	if sum == 0 {
		return "", errors.New("none has come: the guest was not woken")
	}
	return strings.Join(counts, ", "), nil
}

// streamOut has the guest send to a server of the host.
func (r *run) streamOut(context.Context) (string, error) {
	g, err := describe(r.machine.guest)
	if err != nil {
		return "", err
	}
	return described(measure(DefaultTime, func(n int64) (Received, error) { return sendOut(r.machine.guest, r.host, g.Router, n) }))
}

// streamIn sends to the guest by the forward.
func (r *run) streamIn(context.Context) (string, error) {
	return described(measure(DefaultTime, func(n int64) (Received, error) { return sendIn(r.machine.guest, n) }))
}

// described tells of a stream that was measured.
func described(s speed, err error) (string, error) {
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%.2f Gbit/s, %d MiB, each byte compared", s.gigabits(), s.bytes>>20), nil
}

// addForward adds a forward while the guest runs, and uses it.
func (r *run) addForward(ctx context.Context) (string, error) {
	sockets, err := filepath.Glob(filepath.Join(r.dir, "*", "*.ctl"))
	if err != nil || len(sockets) != 1 {
		return "", errors.Join(err, fmt.Errorf("there are %d control sockets", len(sockets)))
	}
	path := filepath.Join(r.dir, "added")
	cmd := exec.CommandContext(ctx, r.Vring, "ctl", "forward", "add", "--control="+sockets[0], fmt.Sprintf("unix:%s:%d", path, Port))
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	_, err = describe(endpoint{"unix", path})
	return "used at once", err
}

// rebind has the driver let go of the card and take it again: the rings are set up anew.
func (r *run) rebind(ctx context.Context) (string, error) {
	conn, err := ask(r.machine.guest, requestRebind)
	if err != nil {
		return "", err
	}
	discard(conn)
	_ = conn.Close()
	if err := r.machine.ready(ctx, stepWait); err != nil {
		return "", err
	}
	found, err := r.streamIn(ctx)
	return "lease and stream again: " + found, err
}
