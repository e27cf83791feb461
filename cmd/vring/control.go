package main

import (
	"log/slog"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/daemon"
)

// serveControl answers at a daemon's control socket, if it has one, until stop is called. Who asks for the end of the process there has end
// called.
func serveControl(d *daemon.Daemon, log *slog.Logger, follow *reloader, events *control.Events, end func()) (stop func()) {
	if d.Control() == nil {
		return func() {}
	}
	server := control.NewServer(control.Config{
		Daemon: d, Log: log, Version: programVersion(), Source: follow.source(), Keeper: follow.keeps(), Told: func(t control.Told) { tellChange(log, &t) }, Events: events, Stop: end,
	})
	log.Info("control socket", "path", d.Control().Addr().String())
	go server.Serve(d.Control())
	return server.Close
}

// tellChange logs what became of a change at the control socket. Why one was refused is told to whoever wanted it.
func tellChange(log *slog.Logger, t *control.Told) {
	logForwards(log, &t.Applied)
	if t.Err != nil {
		return
	}
	for i := range t.Changed {
		log.Info("changed at the control socket", differenceArgs(&t.Changed[i])...)
	}
}

// serveMetrics tells metrics at a daemon's address for them, if it has one, until stop is called.
func serveMetrics(d *daemon.Daemon, log *slog.Logger) (stop func()) {
	if d.Metrics() == nil {
		return func() {}
	}
	server := control.NewMetricsServer(d, log)
	log.Info("metrics", "url", "http://"+d.Metrics().Addr().String()+control.MetricsPath)
	go server.Serve()
	return server.Close
}
