package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/talk"
	"github.com/vringnet/vring/integration/lab/uml"
	"github.com/vringnet/vring/integration/lab/userland"
)

// Ports of the guest's services.
const (
	answerPort = 5001
	echoPort   = 5002
	nobodyPort = 5999 // nobody listens here
)

// bootLimit is generous: a guest is up within two seconds.
const bootLimit = 2 * time.Minute

// vm is one guest, whichever machine it runs on.
type vm struct {
	address  string // in its network
	socket   string // of vring
	userland userland.Userland
	image    string
	forward  int // ports of the host that lead to answerPort, echoPort and nobodyPort
	echo     int
	nobody   int
	path     string // unix socket of the host that leads to answerPort
	answered func(talk.Result)

	// generation is odd while something is being done to the guest. Two equal, even values have nothing between them.
	generation atomic.Uint64

	// door is held while something is done to the guest, and read while others knock at its socket: one that is served
	// because the guest is down would keep the guest out.
	door sync.RWMutex

	mu      sync.Mutex
	dir     string
	machine *uml.Machine
	service int // process in the guest
}

// start boots the guest and starts its services.
func (g *vm) start(ctx context.Context) error {
	ctx2, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return err
	}
	m, err := uml.Start(ctx, uml.Options{Userland: g.userland, Dir: dir, Initrd: g.image, Socket: g.socket})
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	g.mu.Lock()
	g.dir, g.machine = dir, m
	g.mu.Unlock()
	if _, err := m.Console.WaitBoot(ctx2); err != nil {
		return fmt.Errorf("%w\n%s", err, m.Output())
	}
	var lease proto.Lease
	if err := m.Console.Do(ctx2, &lease, "dhcp", "eth0"); err != nil {
		return err
	}
	if lease.Address != g.address+"/24" {
		return fmt.Errorf("guest %s has the lease %s", g.address, lease.Address)
	}
	if err := m.Console.Start("udp-echo", echoPort).Event(ctx2, nil); err != nil {
		return err
	}
	return g.serve(ctx2, m.Console)
}

// serve starts the service of the guest that answers conversations.
func (g *vm) serve(ctx context.Context, c *guest.Console) error {
	call := c.Start("spawn", "answer", answerPort)
	var process proto.Spawned
	if err := call.Event(ctx, &process); err != nil {
		return err
	}
	if err := call.Event(ctx, &proto.Listening{}); err != nil {
		return err
	}
	g.mu.Lock()
	g.service = process.Process
	g.mu.Unlock()
	go func() { // ends with the process
		for {
			var text json.RawMessage
			if err := call.Event(context.Background(), &text); err != nil {
				return
			}
			var r talk.Result
			if json.Unmarshal(text, &r) == nil {
				g.answered(r)
			}
		}
	}()
	return nil
}

// console is that of the machine that runs now.
func (g *vm) console() *guest.Console {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.machine.Console
}

// disturb does something to the guest, which may end what is under way.
func (g *vm) disturb(do func() error) error {
	g.door.Lock()
	defer g.door.Unlock()
	g.generation.Add(1)
	defer g.generation.Add(1)
	return do()
}

// killService kills the service of the guest, and starts another one.
func (g *vm) killService(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit) // a guest's console may have fallen silent
	defer cancel()
	c := g.console()
	g.mu.Lock()
	process := g.service
	g.mu.Unlock()
	if err := c.Do(ctx, nil, "kill", process); err != nil {
		return err
	}
	// The port is free when the process is gone.
	var err error
	for range 50 {
		if err = g.serve(ctx, c); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// killMachine kills the front end and its guest, and starts both again.
func (g *vm) killMachine(ctx context.Context) error {
	if err := g.stop(); err != nil {
		return err
	}
	return g.start(ctx)
}

// reboot switches the guest off, as its user would, and on again.
func (g *vm) reboot(ctx context.Context) error {
	const patience = 20 * time.Second
	g.mu.Lock()
	m := g.machine
	g.mu.Unlock()
	m.Console.Start("poweroff")
	_ = m.Wait(patience) // User-mode Linux may hang; then it is killed
	return g.killMachine(ctx)
}

// stop ends the machine.
func (g *vm) stop() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.machine == nil {
		return nil
	}
	return errors.Join(g.machine.Kill(), os.RemoveAll(g.dir))
}
