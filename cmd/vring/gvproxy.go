package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/gvproxy"
	"github.com/vringnet/vring/internal/sidecar"
)

const gvproxyCommand = "gvproxy"

// newGvproxy is "vring gvproxy". Its words are gvproxy's, so none of them is a flag of ours.
func newGvproxy() *cobra.Command {
	return &cobra.Command{
		Use:   gvproxyCommand + " [FLAG]...",
		Short: "Serve one guest in the place of gvproxy, with its command line and API",
		Long: `Takes gvproxy's command line as it is, and answers gvproxy's API over HTTP: podman machine and others start it without knowing. It
is the same under the name gvproxy: a link or copy of vring that is called so.

The guest is 192.168.127.2, its gateway and name server 192.168.127.1. As with gvproxy, and other than with vring nat, the host's
loopback is open at 192.168.127.254, and ports that are exposed without an address are open to other machines. The guest itself
does not have the API, unless -guest-api gives it. docs/gvproxy.md tells what is the same and what is different.

  gvproxy -listen unix:///tmp/api.sock -listen-qemu unix:///tmp/qemu.sock -ssh-port 2222
  qemu-system-x86_64 ... -netdev stream,id=net,addr.type=unix,addr.path=/tmp/qemu.sock -device virtio-net-pci,netdev=net
  curl --unix-socket /tmp/api.sock http://x/services/forwarder/expose -d '{"local":":8080","remote":"192.168.127.2:80"}'

gvproxy -help lists the flags.`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, words []string) error {
			err := runGvproxy(cmd.Context(), words, cmd.OutOrStdout(), cmd.ErrOrStderr())
			switch {
			case errors.Is(err, flag.ErrHelp): // the flags were listed
				return cmd.Help()
			case errors.Is(err, sidecar.ErrNotReady):
				return toldError{exitError}
			}
			return err
		},
	}
}

func runGvproxy(ctx context.Context, words []string, stdout, stderr io.Writer) error {
	c, err := gvproxy.Parse(words, stderr)
	if err != nil {
		return err
	}
	if c.Version {
		_, err := fmt.Fprintf(stdout, "gvproxy version %s (vring)\n", programVersion())
		return err
	}
	if err := openLog(c.LogFile); err != nil {
		return err
	}
	if c.PIDFile != "" {
		if err := os.WriteFile(c.PIDFile, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
			return err
		}
		defer func() { _ = os.Remove(c.PIDFile) }()
	}
	dir, err := os.MkdirTemp(runtimeDir(), runPrefix+"*") // which is this user's; vring ctl looks for it
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	g := gvproxyRun{command: c, control: filepath.Join(dir, "vring.sock.ctl"), log: slog.New(slog.NewTextHandler(stderr, nil))}
	defer g.close()
	if err := g.listen(ctx); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	vring := slices.Concat([]string{self, "nat", "--control=" + g.control}, c.Options(g.guestAPI))
	return sidecar.Beside(ctx, sidecar.Config{Sidecar: vring, Dir: dir}, g.serve)
}

// openLog lets all processes write to a file instead of standard error; "" leaves it.
func openLog(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Dup3(int(f.Fd()), unix.Stderr, 0)
}

// gvproxyRun is one run in gvproxy's place.
type gvproxyRun struct {
	command   *gvproxy.Command
	control   string // path of the control socket
	log       *slog.Logger
	listeners []net.Listener
	ofGuest   net.Listener // of listeners, that which the guest's programs reach; nil for none
	guestAPI  netip.AddrPort
}

// listen opens all listeners of the API.
func (g *gvproxyRun) listen(ctx context.Context) (err error) {
	if g.listeners, err = g.command.Listen(ctx); err != nil {
		return err
	}
	if !g.command.GuestAPI {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	g.ofGuest, g.guestAPI = l, l.Addr().(*net.TCPAddr).AddrPort()
	g.listeners = append(g.listeners, l)
	return nil
}

func (g *gvproxyRun) close() {
	for _, l := range g.listeners {
		_ = l.Close()
	}
}

// serve answers until ctx ends. The guest is served meanwhile.
func (g *gvproxyRun) serve(ctx context.Context) error {
	server := gvproxy.NewServer(g.command, g.control, g.log)
	defer server.Close()
	for _, told := range g.command.Told() {
		g.log.Info(told)
	}
	for _, f := range g.command.Forwards {
		if err := server.Forward(ctx, f); err != nil {
			return fmt.Errorf("-forward-sock %s: %w", f.Socket, err)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(g.listeners))
	var all sync.WaitGroup
	for _, l := range g.listeners {
		all.Go(func() { errs <- server.Serve(ctx, l, l == g.ofGuest) })
	}
	defer all.Wait()
	defer cancel()
	select {
	case <-ctx.Done():
		return nil
	case err := <-errs:
		return err
	}
}
