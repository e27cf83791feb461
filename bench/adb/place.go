package adb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vringnet/vring/bench/adb/errand"
	"github.com/vringnet/vring/bench/testbed"
	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/uml"
	"github.com/vringnet/vring/integration/lab/userland"
)

// Ports in the guest.
const (
	adbdPort    = 5555
	servicePort = 10977
	nobodysPort = 10978
)

// The guest's network is vring's default.
const (
	guestAddress = "10.0.2.15/24"
	router       = "10.0.2.2"
	mtu          = 1500
)

const bootLimit = time.Minute

// tools are what a run needs, built once.
type tools struct {
	dir               string
	adb, vring, image string
	version           string // of adb
}

func prepare(ctx context.Context, dir string) (t tools, err error) {
	t = tools{dir: dir, vring: filepath.Join(dir, "vring"), image: filepath.Join(dir, "guest.cpio")}
	if t.adb, err = exec.LookPath("adb"); err != nil {
		return t, fmt.Errorf("%w; run bench/install.sh", err)
	}
	version, err := exec.CommandContext(ctx, t.adb, "version").Output()
	if err != nil {
		return t, err
	}
	t.version = strings.Join(strings.Split(strings.TrimSpace(string(version)), "\n")[:2], ", ")
	if err := testbed.Build(ctx, "./cmd/vring", t.vring); err != nil {
		return t, err
	}
	program, err := testbed.BuildGuest(ctx, dir)
	if err != nil {
		return t, err
	}
	modules, err := guest.UMLModules(userland.Bookworm)
	if err != nil {
		return t, err
	}
	return t, guest.Image{Init: program, Modules: modules}.Write(t.image)
}

// ports are those of the host, on its loopback.
type ports struct {
	server, adbd                     int
	chain, direct                    int // to the service
	chainNobody, directNobody, gated int // to the port where nobody listens
}

// place is a guest with adbd and the service, and both ways to it.
type place struct {
	ports
	dir    string
	tools  tools
	vring  *process.Process
	guest  *uml.Machine
	server *adbServer
	shared bool        // the server is another place's
	alone  bool        // there is no other guest
	died   *guest.Call // the service's process, which has ended when this has
}

// client returns the client of a way to the service.
func (p *place) client(way string, limit time.Duration) errand.Client {
	port := p.direct
	if way == chain {
		port = p.chain
	}
	return errand.Client{Address: loopback(port), Limit: limit}
}

// newPlace starts everything. It ends with ctx at the latest.
func newPlace(ctx context.Context, t tools) (*place, error) {
	return startPlace(ctx, &place{tools: t, alone: true})
}

// newNeighbour is newPlace for one guest of several. An adb server is started only if there is none yet.
func newNeighbour(ctx context.Context, t tools, server *adbServer) (*place, error) {
	return startPlace(ctx, &place{tools: t, server: server, shared: server != nil})
}

func startPlace(ctx context.Context, p *place) (*place, error) {
	dir, err := os.MkdirTemp(p.tools.dir, "")
	if err != nil {
		return nil, err
	}
	p.dir = dir
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *place) start(ctx context.Context) error {
	ctxBoot, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	if err := p.findPorts(); err != nil {
		return err
	}
	socket := filepath.Join(p.dir, "net")
	if err := p.startVring(ctx, socket); err != nil {
		return err
	}
	var err error
	if p.guest, err = uml.Start(ctx, uml.Options{Dir: p.dir, Initrd: p.tools.image, Socket: socket, Pinned: p.alone}); err != nil {
		return err
	}
	console := p.guest.Console
	if _, err := console.WaitBoot(ctxBoot); err != nil {
		return err
	}
	if err := console.Do(ctxBoot, nil, "configure", guestAddress, router, mtu); err != nil {
		return err
	}
	if err := console.Start("adbd", fmt.Sprintf("0.0.0.0:%d", adbdPort)).Event(ctxBoot, nil); err != nil {
		return err
	}
	if err := p.startService(ctxBoot); err != nil {
		return err
	}
	return p.startChain(ctx)
}

// findPorts finds ports that are free now.
func (p *place) findPorts() error {
	for _, port := range []*int{
		&p.ports.server, &p.adbd, &p.chain, &p.direct, &p.chainNobody, &p.directNobody, &p.gated,
	} {
		l, err := net.Listen("tcp", loopback(0))
		if err != nil {
			return err
		}
		defer l.Close() // not before all are found
		*port = l.Addr().(*net.TCPAddr).Port
	}
	return nil
}

func (p *place) startVring(ctx context.Context, socket string) (err error) {
	forward := func(gate string, here, there int) string { return fmt.Sprintf("%s%s:%d", gate, loopback(here), there) }
	cmd := exec.Command(p.tools.vring, "nat", "--socket-path", socket,
		"-p", forward("", p.adbd, adbdPort),
		"-p", forward("", p.direct, servicePort),
		"-p", forward("", p.directNobody, nobodysPort),
		"-p", forward("gate:", p.gated, nobodysPort))
	p.vring, err = testbed.Launch(ctx, cmd, testbed.SaysReady)
	return err
}

// startService starts the service in a process of its own.
func (p *place) startService(ctx context.Context) error {
	p.died = p.guest.Console.Start("spawn", "errands", fmt.Sprintf("0.0.0.0:%d", servicePort))
	return errors.Join(p.died.Event(ctx, nil), p.died.Event(ctx, nil)) // it runs, it listens
}

// startChain starts the adb server, unless it is another's, and has it forward.
func (p *place) startChain(ctx context.Context) (err error) {
	if !p.shared {
		if p.server, err = startADB(ctx, p.tools, p.ports.server); err != nil {
			return err
		}
	}
	return p.server.reach(ctx, p.adbd, map[int]int{p.chain: servicePort, p.chainNobody: nobodysPort})
}

// Close ends all processes.
func (p *place) Close() error {
	var errs []error
	if !p.shared && p.server != nil && p.server.Process != nil {
		errs = append(errs, p.server.Kill())
	}
	if p.guest != nil {
		errs = append(errs, p.guest.Kill())
	}
	if p.vring != nil {
		errs = append(errs, p.vring.Kill())
	}
	return errors.Join(append(errs, os.RemoveAll(p.dir))...)
}
