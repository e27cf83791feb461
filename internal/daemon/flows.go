package daemon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/worker"
)

// flowPause is how long a guest's thread serves only the guest between two looks at its flows, each of which takes some 0.1 ms.
const flowPause = 2 * time.Millisecond

// NoGuestError is that there is no guest of a name.
type NoGuestError struct {
	Name  string
	There []string // names of those that there are
}

func (e *NoGuestError) Error() string {
	return fmt.Sprintf("there is no guest %q; there are %q", e.Name, e.There)
}

// NoFlowsError is that a guest's network has no flows.
type NoFlowsError struct{ Guest string }

func (e *NoFlowsError) Error() string {
	return fmt.Sprintf("guest %s is not behind NAT: its network knows no flows", e.Guest)
}

// Flows returns flows of a guest that filter chooses, the oldest first. If there are more than most, some are left out, whichever, and
// more is true. What begins or ends meanwhile may be left out, too. The guest's threads are asked for some at a time, and serve the
// guest in between. Any goroutine may call it between Open and the end of Serve; it waits for those that look at the same guest. The
// error is a NoGuestError, a NoFlowsError, the context's, or tells of a thread that does not answer.
func (d *Daemon) Flows(ctx context.Context, guest string, filter *nat.FlowFilter, most int) (flows []nat.FlowInfo, more bool, err error) {
	look := func(p *nat.Port, now int64, from uint32) (s slice) {
		s.flows, s.next = p.Flows(now, from, filter)
		return s
	}
	err = d.eachSlice(ctx, guest, look, func(s *slice) (goOn bool) {
		flows = append(flows, s.flows...)
		more = len(flows) > most
		return !more
	})
	if err != nil {
		return nil, false, err
	}
	flows = flows[:min(len(flows), most)]
	slices.SortStableFunc(flows, func(a, b nat.FlowInfo) int { return cmp.Compare(b.Age, a.Age) })
	return flows, more, nil
}

// EndFlows ends the flows of a guest that filter chooses, and returns how many. It does so as Flows looks at them. After an error some
// may have been ended.
func (d *Daemon) EndFlows(ctx context.Context, guest string, filter *nat.FlowFilter) (ended int, err error) {
	end := func(p *nat.Port, _ int64, from uint32) (s slice) {
		s.ended, s.next = p.EndFlows(from, filter)
		return s
	}
	err = d.eachSlice(ctx, guest, end, func(s *slice) (goOn bool) {
		ended += s.ended
		return true
	})
	return ended, err
}

// Explain says what becomes of a flow that a guest begins now, as nat's Port.Explain does. Any goroutine may call it between Open and the
// end of Serve. The error is a NoGuestError, a NoFlowsError, or tells of a thread that does not answer.
func (d *Daemon) Explain(guest string, to nat.Target) (nat.Explanation, error) {
	s, err := d.withFlows(guest)
	if err != nil {
		return nat.Explanation{}, err
	}
	return askEngine(s, func(p *nat.Port, _ int64) nat.Explanation { return p.Explain(to) })
}

// Leases returns the addresses that hosts of a guest have by DHCP, as nat's Port.Leases does. Any goroutine may call it between Open and the
// end of Serve. The error is a NoGuestError, a NoFlowsError, or tells of a thread that does not answer.
func (d *Daemon) Leases(guest string) ([]nat.Lease, error) {
	s, err := d.withFlows(guest)
	if err != nil {
		return nil, err
	}
	return askEngine(s, (*nat.Port).Leases)
}

// HostNames returns the names that a guest finds of itself and of others, as nat's Port.HostNames does. It is called, and fails, as Leases.
func (d *Daemon) HostNames(guest string) ([]nat.HostName, error) {
	s, err := d.withFlows(guest)
	if err != nil {
		return nil, err
	}
	return askEngine(s, (*nat.Port).HostNames)
}

// Resolvers returns what is known of the resolvers that answer a guest's names, as nat's Port.Resolvers does. It is called, and fails, as Leases.
func (d *Daemon) Resolvers(guest string) (nat.Resolvers, error) {
	s, err := d.withFlows(guest)
	if err != nil {
		return nat.Resolvers{}, err
	}
	return askEngine(s, (*nat.Port).Resolvers)
}

// CachedNames returns the answers of resolvers that are kept for a guest, as nat's Port.CachedNames does. It is called, and fails, as Leases.
func (d *Daemon) CachedNames(guest string) ([]nat.CachedName, error) {
	s, err := d.withFlows(guest)
	if err != nil {
		return nil, err
	}
	return askEngine(s, (*nat.Port).CachedNames)
}

// NameCacheStats returns what has become of a guest's queries with answers that are kept. The error is a NoGuestError or a NoFlowsError.
func (d *Daemon) NameCacheStats(guest string) (nat.NameCacheStats, error) {
	s, err := d.withFlows(guest)
	if err != nil {
		return nat.NameCacheStats{}, err
	}
	return s.engine().NameCacheStats(), nil
}

// ForgetNames forgets the answers of resolvers that are kept for a guest, and returns how many there were. The error is a NoGuestError or a
// NoFlowsError.
func (d *Daemon) ForgetNames(guest string) (int, error) {
	s, err := d.withFlows(guest)
	if err != nil {
		return 0, err
	}
	return s.engine().ForgetNames(), nil
}

// askEngine asks the first queue pair of a guest, on its thread.
func askEngine[T any](s *served, ask func(p *nat.Port, now int64) T) (answer T, err error) {
	x := new(T) // to which the thread may write after an error
	if err := s.device.Do(0, func(t *worker.Thread) { *x = ask(engineOf(t.Port()), t.Now()) }); err != nil {
		return answer, fmt.Errorf("guest %s: %w", s.name, err)
	}
	return *x, nil
}

// slice is what was done with some flows of a queue pair.
type slice struct {
	flows []nat.FlowInfo // that were looked at
	ended int
	next  uint32 // flow to go on with, 0 if there are no more
}

// eachSlice lets do take some flows of a guest after the other: on their thread, which it must not hold up. Each time, taken is told on
// the caller's goroutine what was done, and says whether to go on.
func (d *Daemon) eachSlice(ctx context.Context, guest string, do func(p *nat.Port, now int64, from uint32) slice, taken func(*slice) bool) error {
	s, err := d.withFlows(guest)
	if err != nil {
		return err
	}
	select {
	case s.looking <- struct{}{}:
		defer func() { <-s.looking }()
	case <-ctx.Done():
		return fmt.Errorf("others look at the flows of guest %s: %w", guest, ctx.Err())
	}
	pair, from := 0, uint32(0)
	for pair < len(s.ports) {
		some := new(slice) // to which the thread may write after an error
		err := s.device.Do(pair, func(t *worker.Thread) { *some = do(engineOf(t.Port()), t.Now(), from) })
		if err != nil {
			return fmt.Errorf("guest %s, queue pair %d: %w", s.name, pair, err)
		}
		if !taken(some) {
			return nil
		}
		if from = some.next; from == 0 {
			pair++
		}
		if err := pause(ctx, flowPause); err != nil {
			return err
		}
	}
	return nil
}

// pause waits for some time, or until ctx ends, whose error it returns.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// withFlows finds a guest that has flows.
func (d *Daemon) withFlows(name string) (*served, error) {
	s, err := d.find(name)
	if err == nil && s.snapshot == nil {
		return nil, &NoFlowsError{name}
	}
	return s, err
}
