package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/qemu"
	"github.com/vringnet/vring/integration/lab/userland"
)

// The services: one of the host, and one of the guest with the port of the host that leads to it.
const (
	hostPort    = 8000
	guestPort   = 80
	forwardPort = 8080
)

// demoLimit ends a demonstration that hangs; it takes some ten seconds.
const demoLimit = 3 * time.Minute

func main() {
	shell := flag.Bool("shell", false, "leave the user at the guest's shell")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *shell)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case interrupted:
		fmt.Println("\nInterrupted; everything is stopped and cleaned up.")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run makes a directory for everything, and removes it in the end.
func run(ctx context.Context, shell bool) error {
	dir, err := os.MkdirTemp("", "vring-demo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{dir: dir, socket: filepath.Join(dir, "vm0.sock"), image: filepath.Join(dir, "guest.cpio")}
	if shell {
		return d.shell(ctx)
	}
	limited, cancel := context.WithTimeout(ctx, demoLimit)
	defer cancel()
	return d.show(limited)
}

// demo is one demonstration.
type demo struct {
	dir, socket, image string
}

// step says what comes next.
func step(format string, args ...any) { fmt.Printf("\n=> "+format+"\n", args...) }

// detail says what has come of it.
func detail(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

// show is the demonstration.
func (d *demo) show(ctx context.Context) error {
	page, err := serveHostPage()
	if err != nil {
		return err
	}
	defer page.Close()
	vring, err := d.prepare(ctx)
	if err != nil {
		return err
	}
	defer stopVring(vring)

	step("Booting a Linux guest in QEMU, with an emulated processor; its network card is served by vring")
	began := time.Now()
	m, err := qemu.Start(ctx, qemu.Options{Dir: d.dir, Initrd: d.image, Socket: d.socket})
	if err != nil {
		return err
	}
	defer func() { _ = m.Kill() }()
	hello, err := m.Console.WaitBoot(ctx)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, m.Output())
	}
	detail("Linux %s is up after %.1f s", hello.Kernel, time.Since(began).Seconds())
	if err := showNetwork(ctx, m.Console); err != nil {
		return fmt.Errorf("%w\nvring printed:\n%s", err, vring.Output())
	}
	fmt.Println("\nDone. `make demo-shell` leaves you at the guest's shell.")
	return nil
}

// showNetwork uses the guest's network in both directions.
func showNetwork(ctx context.Context, g *guest.Console) error {
	step("The guest asks for its address by DHCP")
	var lease proto.Lease
	if err := g.Do(ctx, &lease, "dhcp", "eth0"); err != nil {
		return err
	}
	detail("address %s, router %s, DNS %s, MTU %d", lease.Address, lease.Router, strings.Join(lease.DNS, " "), lease.MTU)

	url := fmt.Sprintf("http://10.0.2.2:%d/", hostPort)
	step("Out: the guest fetches %s, a service of the host that --allow-host opened", url)
	var page proto.Page
	if err := g.Do(ctx, &page, "http-get", url); err != nil {
		return err
	}
	detail("the guest got: %q", strings.TrimSpace(page.Body))

	step("In: the guest serves a page on its port %d; the host fetches it through the forward", guestPort)
	if err := g.Start("http-serve", guestPort, "Hello-from-the-guest").Event(ctx, nil); err != nil {
		return err
	}
	body, err := fetch(ctx, fmt.Sprintf("http://127.0.0.1:%d/", forwardPort))
	if err != nil {
		return err
	}
	detail("curl http://127.0.0.1:%d/ prints: %q", forwardPort, strings.TrimSpace(body))
	return nil
}

// prepare builds vring and the guest, and starts vring.
func (d *demo) prepare(ctx context.Context) (*process.Process, error) {
	step("Building vring and the guest's file system")
	program := filepath.Join(guest.ProjectRoot(), "bin", "vring")
	if err := guest.BuildProgram(ctx, program, "./cmd/vring", "CGO_ENABLED=0"); err != nil {
		return nil, err
	}
	if err := d.makeImage(ctx); err != nil {
		return nil, err
	}
	return d.startVring(ctx, program)
}

func (d *demo) makeImage(ctx context.Context) error {
	init, err := guest.BuildInit(ctx, d.dir)
	if err != nil {
		return err
	}
	modules, err := guest.KernelModules(userland.Bookworm)
	if err != nil {
		return err
	}
	busybox, err := guest.FindTool("busybox")
	if err != nil {
		return err
	}
	return guest.Image{Init: init, Modules: modules, Busybox: busybox}.Write(d.image)
}

// startVring starts vring and waits until it listens.
func (d *demo) startVring(ctx context.Context, program string) (*process.Process, error) {
	args := []string{
		"nat", "--socket-path", d.socket,
		"-p", fmt.Sprintf("%d:%d", forwardPort, guestPort),
		"--allow-host", fmt.Sprintf("tcp:%d", hostPort),
	}
	step("Starting vring")
	detail("bin/vring %s", strings.Join(args, " "))
	p, err := process.Start(ctx, exec.Command(program, args...), process.Options{})
	if err != nil {
		return nil, err
	}
	for {
		if _, err := os.Stat(d.socket); err == nil {
			return p, nil
		}
		select {
		case <-p.Done():
			return nil, fmt.Errorf("vring has ended:\n%s", p.Output())
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stopVring ends vring as a user would, and by force if that fails.
func stopVring(p *process.Process) {
	const wait = 5 * time.Second
	_ = p.Signal(syscall.SIGTERM)
	if p.Wait(wait) != nil {
		_ = p.Kill()
	}
}

// serveHostPage starts the service of the host that the guest uses.
func serveHostPage() (io.Closer, error) {
	listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", hostPort))
	if err != nil {
		return nil, fmt.Errorf("the demo needs port %d: %w", hostPort, err)
	}
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, "Hello from the host")
		}),
	}
	go func() { _ = server.Serve(listener) }()
	return server, nil
}

// fetch returns the page at a URL.
func fetch(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return string(body), err
}
