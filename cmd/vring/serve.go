package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/worker"
	"github.com/vringnet/vring/vhostuser"
)

// serveFlags are the flags of every command that serves a guest.
type serveFlags struct {
	socketPath   string
	fd           int
	client       bool
	capabilities bool
	logLevel     string
	logFormat    string
}

func (f *serveFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.socketPath, "socket-path", "", "unix socket for the front end; vring listens on it")
	flags.BoolVar(&f.client, "client", false, "connect to --socket-path instead, where the front end listens (QEMU's server=on)")
	flags.IntVar(&f.fd, "fd", -1, "inherited unix socket, listening or connected, instead of --socket-path")
	flags.StringVar(&f.logLevel, "log-level", "info", "least level that is logged: debug, info, warn or error")
	flags.StringVar(&f.logFormat, "log-format", "text", "form of the log on standard error: text or json")
	flags.BoolVar(&f.capabilities, "print-capabilities", false, "print what this back end is, as JSON for management software, and exit")
}

// check tells all that is wrong with the flags.
func (f *serveFlags) check() error {
	var level slog.Level
	var faults []error
	fail := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	switch {
	case f.socketPath == "" && f.fd < 0:
		fail("one of --socket-path and --fd is needed, to meet the front end")
	case f.socketPath != "" && f.fd >= 0:
		fail("--socket-path and --fd exclude each other")
	case f.socketPath != "":
		faults = append(faults, vhostuser.CheckSocketPath(f.socketPath, f.client))
	case f.client:
		fail("--client needs --socket-path")
	}
	if level.UnmarshalText([]byte(f.logLevel)) != nil {
		fail("--log-level %q: want debug, info, warn or error", f.logLevel)
	}
	if f.logFormat != "text" && f.logFormat != "json" {
		fail("--log-format %q: want text or json", f.logFormat)
	}
	return errors.Join(faults...)
}

// logger builds the log. The flags were checked.
func (f *serveFlags) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(f.logLevel))
	options := &slog.HandlerOptions{Level: level}
	if f.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// serve runs a device with the given port until ctx ends. It owns the port.
func (f *serveFlags) serve(ctx context.Context, log *slog.Logger, stderr io.Writer, port netbackend.Port) error {
	device, err := worker.New(worker.Config{
		Ports:   []netbackend.Port{port},
		Notices: func(n netbackend.Notice) { logNotice(log, n) },
	})
	if err != nil {
		return err
	}
	server, err := vhostuser.NewServer(vhostuser.Config{
		SocketPath: f.socketPath, Client: f.client, FD: f.fd, Device: device, Log: log,
	})
	if err != nil {
		return errors.Join(err, device.Close())
	}
	f.explain(log, stderr)
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
	err = server.Serve(ctx)
	_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
	return errors.Join(err, device.Close())
}

func logNotice(log *slog.Logger, n netbackend.Notice) {
	if n.Key == "" {
		log.Log(context.Background(), slog.Level(n.Level), n.Message)
		return
	}
	log.Log(context.Background(), slog.Level(n.Level), n.Message, n.Key, n.Value)
}

// explain says how the front end is started.
func (f *serveFlags) explain(log *slog.Logger, stderr io.Writer) {
	if f.socketPath == "" {
		log.Info("ready", "fd", f.fd)
		return
	}
	log.Info("ready", "socket", f.socketPath)
	fmt.Fprintf(stderr, "Start the guest with its memory shared, which is what is forgotten most:\n  %s\n", qemuCommand(f.socketPath, f.client))
}

// qemuCommand is a command line, ready to paste, that boots a guest behind the socket.
func qemuCommand(path string, client bool) string {
	chardev := "reconnect=1" // QEMU connects, and again when vring is restarted
	if client {
		chardev = "server=on,wait=off"
	}
	return "qemu-system-x86_64 -m 1G -object memory-backend-memfd,id=mem,size=1G,share=on -machine q35,memory-backend=mem" +
		" -chardev socket,id=vring,path=" + path + "," + chardev +
		" -netdev vhost-user,id=net,chardev=vring -device virtio-net-pci,netdev=net ..."
}
