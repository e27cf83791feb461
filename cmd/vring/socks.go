package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/socks"
)

// serveSOCKS connects clients at a daemon's address for SOCKS to guests, if it has one, until stop is called.
func serveSOCKS(d *daemon.Daemon, log *slog.Logger) (stop func()) {
	l := d.SOCKS()
	if l == nil {
		return func() {}
	}
	server := socks.NewServer(l, func(ctx context.Context, to socks.Target, c *net.TCPConn, greeting []byte) (socks.Reply, error) {
		err := connectByName(ctx, d, to, c, greeting)
		return replyOf(err), err
	}, log)
	log.Info("SOCKS", "address", l.Addr().String())
	go server.Serve()
	return server.Close
}

// connectByName connects a client to the guest that it names, or that has the address.
func connectByName(ctx context.Context, d *daemon.Daemon, to socks.Target, c *net.TCPConn, greeting []byte) (err error) {
	var guest string
	if to.Name != "" {
		guest, err = d.GuestNamed(to.Name)
	} else {
		guest, err = d.GuestAt(to.Addr)
	}
	if err != nil {
		return err
	}
	from, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return err // the connection is gone
	}
	from = netip.AddrPortFrom(from.Addr().WithZone("").Unmap(), from.Port())
	return d.Connect(ctx, guest, netip.AddrPortFrom(to.Addr, to.Port), &daemon.Client{Conn: c, From: from, Greeting: greeting})
}

// replyOf is what a client is told of an error of daemon.Daemon.Connect.
func replyOf(err error) socks.Reply {
	refused := new(daemon.ConnectError)
	switch {
	case err == nil:
		return socks.Succeeded
	case errors.As(err, new(*daemon.NoGuestError)), errors.As(err, new(*daemon.NoFlowsError)):
		return socks.HostUnreachable
	case !errors.As(err, &refused):
		return socks.GeneralFailure
	}
	replies := map[daemon.ConnectFailure]socks.Reply{
		daemon.BadDestination: socks.NotAllowed, daemon.ConnectRefused: socks.Refused, daemon.GuestSilent: socks.HostUnreachable,
		daemon.AddressUnused: socks.HostUnreachable, daemon.AddressUnreachable: socks.HostUnreachable, daemon.GuestAway: socks.NetworkUnreachable,
	}
	if reply, known := replies[refused.Kind]; known {
		return reply
	}
	return socks.GeneralFailure
}
