package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/process"
)

// soak is one run.
type soak struct {
	opt     options
	dir     string
	vring   *process.Process
	guests  []*vm
	garbage string // socket of vring that only front ends use that mean harm
	port    int    // of the host, for the guests' conversations
	ledger  *ledger
	closers []io.Closer

	mayhems atomic.Int64
	kills   atomic.Int64 // of services
	boots   atomic.Int64 // guests that were killed or switched off, and started again

	printing sync.Mutex
	w        io.Writer

	mu     sync.Mutex
	faults []string
}

func newSoak(opt options, w io.Writer) *soak { return &soak{opt: opt, w: w, ledger: newLedger()} }

// print writes for the user. Any goroutine may.
func (s *soak) print(format string, args ...any) {
	s.printing.Lock()
	defer s.printing.Unlock()
	fmt.Fprintf(s.w, format+"\n", args...)
}

// maxFaults are told one by one.
const maxFaults = 50

// fault notes something that must not be.
func (s *soak) fault(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults = append(s.faults, text); len(s.faults) <= maxFaults {
		s.print("FAULT: %s", text)
	}
}

// start builds what is needed and boots all guests.
func (s *soak) start(ctx context.Context) (err error) {
	if s.dir, err = os.MkdirTemp("", "soak"); err != nil {
		return err
	}
	image, err := s.build(ctx)
	if err != nil {
		return err
	}
	if s.port, err = s.listen(); err != nil {
		return err
	}
	if err := s.plan(image); err != nil {
		return err
	}
	if err := s.startVring(ctx); err != nil {
		return err
	}
	errs := make([]error, len(s.guests))
	var wg sync.WaitGroup
	for i, g := range s.guests {
		wg.Go(func() { errs[i] = g.start(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// build makes vring and the guests' image.
func (s *soak) build(ctx context.Context) (image string, err error) {
	if err := guest.BuildProgram(ctx, filepath.Join(s.dir, "vring"), "./cmd/vring", "CGO_ENABLED=0"); err != nil {
		return "", err
	}
	program, err := guest.BuildInit(ctx, s.dir)
	if err != nil {
		return "", err
	}
	modules, err := guest.UMLModules(s.opt.userland)
	if err != nil {
		return "", err
	}
	image = filepath.Join(s.dir, "guest.cpio")
	return image, guest.Image{Init: program, Modules: modules}.Write(image)
}

// plan gives each guest its address, its socket and its ports.
func (s *soak) plan(image string) error {
	const first = 15
	taken := map[int]bool{}
	for i := range s.opt.guests {
		g := &vm{
			address: fmt.Sprintf("10.0.2.%d", first+i), userland: s.opt.userland, image: image, answered: s.ledger.answered,
			socket: filepath.Join(s.dir, fmt.Sprintf("g%d", i)), path: filepath.Join(s.dir, fmt.Sprintf("in%d", i)),
		}
		for _, port := range []*int{&g.forward, &g.echo, &g.nobody} {
			var err error
			if *port, err = freePort(taken); err != nil {
				return err
			}
			taken[*port] = true
		}
		s.guests = append(s.guests, g)
	}
	s.garbage = filepath.Join(s.dir, "garbage")
	return nil
}

// startVring starts vring with a socket for each guest, and one for mischief.
func (s *soak) startVring(ctx context.Context) (err error) {
	args := []string{"nat", "--allow-host", fmt.Sprintf("tcp:%d", s.port)}
	for _, g := range s.guests {
		args = append(args, "--socket-path", g.socket,
			"-p", fmt.Sprintf("127.0.0.1:%d:%s:%d", g.forward, g.address, answerPort),
			"-p", fmt.Sprintf("unix:%s:%s:%d", g.path, g.address, answerPort),
			"-p", fmt.Sprintf("127.0.0.1:%d:%s:%d", g.nobody, g.address, nobodyPort),
			"-p", fmt.Sprintf("udp:127.0.0.1:%d:%s:%d", g.echo, g.address, echoPort))
	}
	args = append(args, "--socket-path", s.garbage)
	s.vring, err = process.Start(context.WithoutCancel(ctx), exec.Command(filepath.Join(s.dir, "vring"), args...), process.Options{})
	if err != nil {
		return err
	}
	const patience = 20 * time.Second
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if strings.Contains(s.vring.Output(), "socket="+s.garbage) {
			return nil
		}
	}
	return fmt.Errorf("vring is not ready:\n%s", s.vring.Output())
}

// run is the time of unrest, between two looks at what vring holds.
func (s *soak) run(ctx context.Context) error {
	s.print("%d guests of %v, %v, seed %d", s.opt.guests, s.opt.userland, s.opt.time, s.opt.seed)
	s.warmUp(ctx)
	before, err := s.holds()
	if err != nil {
		return err
	}
	s.print("before: %v", before)
	s.unrest(ctx)
	s.quiet(ctx)
	after, err := s.settle(ctx, before)
	if err != nil {
		return err
	}
	s.print("after:  %v", after)
	s.report("in all")
	for _, fault := range after.excess(before) {
		s.fault(fault)
	}
	if err := s.verdict(); err != nil {
		return fmt.Errorf("%w; vring printed at last:\n%s", err, s.vring.Output())
	}
	return nil
}

// warmUp lets every guest be called once, so that what is allotted once is there.
func (s *soak) warmUp(ctx context.Context) {
	r := s.random(0)
	for _, g := range s.guests {
		s.callIn(g, s.script(r))
		s.callOut(ctx, g, s.script(r))
		s.datagram(g, r)
	}
	sleep(ctx, time.Second)
}

// random returns the n-th source of what is random.
func (s *soak) random(n uint64) *rand.Rand { return rand.New(rand.NewPCG(s.opt.seed, n)) }

// unrest lets everything happen, and returns when all of it has ended.
func (s *soak) unrest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.time)
	defer cancel()
	var wg sync.WaitGroup
	n := uint64(0)
	begin := func(actor func(r *rand.Rand)) {
		n++
		r := s.random(n)
		wg.Go(func() { actor(r) })
	}
	for _, g := range s.guests {
		for range s.opt.callers {
			begin(func(r *rand.Rand) { s.call(ctx, g, r) })
		}
		begin(func(r *rand.Rand) { s.trouble(ctx, g, r) })
	}
	begin(func(r *rand.Rand) { s.mayhem(ctx, r) })
	s.watch(ctx)
	wg.Wait()
}

// trouble does something to a guest now and then.
func (s *soak) trouble(ctx context.Context, g *vm, r *rand.Rand) {
	for {
		sleep(ctx, time.Duration(r.ExpFloat64()*float64(s.opt.calm)))
		if ctx.Err() != nil {
			return
		}
		what, count, do := "kill the service of", &s.kills, g.killService
		switch r.IntN(6) {
		case 0:
			what, count, do = "kill", &s.boots, g.killMachine
		case 1:
			what, count, do = "switch off", &s.boots, g.reboot
		}
		if s.opt.verbose {
			s.print("%s guest %s", what, g.address)
		}
		// What has begun is brought to its end: the guests are to be up when all is compared.
		if err := g.disturb(func() error { return do(context.WithoutCancel(ctx)) }); err != nil {
			s.fault(fmt.Sprintf("%s guest %s: %v", what, g.address, err))
			return
		}
		count.Add(1)
	}
}

// watch tells of progress until ctx ends, and ends early if vring does.
func (s *soak) watch(ctx context.Context) {
	begin, next := time.Now(), s.opt.progress
	for ctx.Err() == nil {
		sleep(ctx, 100*time.Millisecond)
		s.collect()
		if t := time.Since(begin); t >= next {
			next += s.opt.progress
			s.report(t.Round(time.Second).String())
		}
	}
}

// collect closes the books on what is over.
func (s *soak) collect() {
	faults := s.ledger.settle(time.Now())
	for _, fault := range faults {
		s.fault(fault)
	}
	if len(faults) > 0 && s.few() {
		s.printStatus()
	}
}

// few tells whether faults are still told one by one.
func (s *soak) few() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.faults) <= maxFaults
}

// printStatus shows what vring has counted: by what connections ended, among others.
func (s *soak) printStatus() {
	text, err := s.status()
	if err != nil {
		text = err.Error()
	}
	s.print("vring's status:\n%s", text)
}

// report tells what has happened so far.
func (s *soak) report(when string) {
	t, open := s.ledger.counts()
	s.print("%s: %d conversations complete (%d MiB), %d reset, %d disturbed, %d failed, %d open; %d kills of services, %d boots, %d front ends that mean harm",
		when, t.Complete, t.Bytes>>20, t.Resets, t.Disturbed, t.Failed, open, s.kills.Load(), s.boots.Load(), s.mayhems.Load())
}

// quiet waits until no conversation is left.
func (s *soak) quiet(ctx context.Context) {
	for deadline := time.Now().Add(2*talkLimit + grace); time.Now().Before(deadline) && ctx.Err() == nil; {
		s.collect()
		if _, open := s.ledger.counts(); open == 0 {
			return
		}
		sleep(ctx, 100*time.Millisecond)
	}
	_, open := s.ledger.counts()
	s.fault(fmt.Sprintf("%d conversations have not ended", open))
}

// settle waits until vring holds no more than before, as connections end a moment after their conversations, and returns
// what it holds.
func (s *soak) settle(ctx context.Context, before holdings) (h holdings, err error) {
	const patience = 30 * time.Second
	for deadline := time.Now().Add(patience); ; sleep(ctx, time.Second) {
		h, err = s.holds()
		if err != nil || len(h.excess(before)) == 0 || time.Now().After(deadline) || ctx.Err() != nil {
			return h, err
		}
	}
}

func (s *soak) verdict() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) > 0 {
		return fmt.Errorf("%d faults; seed %d", len(s.faults), s.opt.seed)
	}
	s.print("all was well")
	return nil
}

// stop ends everything. vring must end by itself when it is told to.
func (s *soak) stop() error {
	var errs []error
	for _, g := range s.guests {
		errs = append(errs, g.stop())
	}
	for _, c := range s.closers {
		errs = append(errs, c.Close())
	}
	if s.vring != nil {
		const patience = 20 * time.Second
		_ = s.vring.Signal(syscall.SIGTERM)
		if err := s.vring.Wait(patience); err != nil {
			errs = append(errs, fmt.Errorf("vring: %w\n%s", err, s.vring.Output()), s.vring.Kill())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}
