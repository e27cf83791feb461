package daemon

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MetricsForm is the form of an address at which metrics are told.
const MetricsForm = "[ADDRESS:]PORT"

// ParseMetrics reads where metrics are told: MetricsForm. A port alone is one of the loopback.
func ParseMetrics(text string) (netip.AddrPort, error) { return parsePort(optionMetrics, text) }

// parsePort reads the value of an option that is a port of this host: MetricsForm.
func parsePort(o Option, text string) (at netip.AddrPort, err error) {
	if port, err := strconv.ParseUint(text, 10, 16); err == nil {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port)), nil
	}
	if at, err := netip.ParseAddrPort(text); err == nil {
		return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
	}
	if port, isAll := strings.CutPrefix(text, ":"); isAll {
		return at, faultf("%s %q: want an address; write %s %s for the loopback, or %s 0.0.0.0%s for all", o, text, o, port, o, text)
	}
	return at, faultf("%s %q: want %s with an IP address, not a name, as in 9100 or 192.0.2.1:9100", o, text, MetricsForm)
}

// checkMetrics returns what is wrong with the address of metrics.
func (c *Config) checkMetrics() error { return checkPort(optionMetrics, c.Metrics) }

// checkPort returns what is wrong with the value of an option that is a port of this host. The zero value is none.
func checkPort(o Option, at netip.AddrPort) error {
	switch {
	case at == netip.AddrPort{}:
		return nil
	case at.Port() == 0:
		return faultf("%s %s: want a port from 1 to 65535", o, at)
	case !at.IsValid() || at.Addr().IsMulticast():
		return faultf("%s %s: want an address of this host, as in 127.0.0.1", o, at)
	}
	return nil
}

// openMetrics listens at the address of metrics, if there is one. Nobody is answered yet.
func (d *Daemon) openMetrics() (err error) {
	d.metrics, err = listenAt(optionMetrics, d.config.Metrics)
	return err
}

// listenAt listens at the port of this host that an option says; nil for none.
func listenAt(o Option, at netip.AddrPort) (net.Listener, error) {
	if !at.IsValid() {
		return nil, nil
	}
	l, err := Listen(at)
	if err != nil {
		return nil, faultf("%s %s: %w", o, at, err)
	}
	return l, nil
}

// Listen listens at a port of this host. Its connections are asked for nothing that the sandbox refuses. The error is the kernel's, without
// the address.
func Listen(at netip.AddrPort) (net.Listener, error) {
	network := "tcp4"
	if at.Addr().Is6() {
		network = "tcp6" // [::] is no address of IPv4
	}
	listening := net.ListenConfig{KeepAlive: -1} // which would be options of sockets that the sandbox refuses
	listening.SetMultipathTCP(false)
	l, err := listening.Listen(context.Background(), network, at.String())
	if err != nil {
		return nil, reason(err)
	}
	return l, nil
}

// reason is the kernel's part of an error of package net, which has the address before.
func reason(err error) error {
	if errno := unix.Errno(0); errors.As(err, &errno) {
		return errno
	}
	return err
}

// closeListener ends a listener, if there is one.
func closeListener(l net.Listener) error {
	if l == nil {
		return nil
	}
	return l.Close()
}

// Metrics returns the listener at the address of metrics, nil if there is none. The daemon closes it when it ends, and whoever accepts
// closes connections.
func (d *Daemon) Metrics() net.Listener { return d.metrics }
