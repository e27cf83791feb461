package main

import (
	"log/slog"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/daemon"
)

// serveControl answers at a daemon's control socket, if it has one, until stop is called.
func serveControl(d *daemon.Daemon, log *slog.Logger) (stop func()) {
	if d.Control() == nil {
		return func() {}
	}
	server := control.NewServer(control.Config{Daemon: d, Log: log, Version: programVersion()})
	log.Info("control socket", "path", d.Control().Addr().String())
	go server.Serve(d.Control())
	return server.Close
}
