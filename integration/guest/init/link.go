package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/vringnet/vring/integration/guest/proto"
)

// linkWait bounds the wait for an interface: a driver that was just loaded needs a moment.
const linkWait = 10 * time.Second

// findLink waits for an interface.
func findLink(name string) (netlink.Link, error) {
	for deadline := time.Now().Add(linkWait); ; {
		l, err := netlink.LinkByName(name)
		if err == nil {
			return l, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("interface %s: %w", name, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// bringUp sets an interface up and waits for its carrier.
func bringUp(name string) (netlink.Link, error) {
	l, err := findLink(name)
	if err != nil {
		return nil, err
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return nil, fmt.Errorf("set %s up: %w", name, err)
	}
	for deadline := time.Now().Add(linkWait); !carrier(name); {
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("interface %s has no carrier", name)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return l, nil
}

func carrier(name string) bool {
	state, err := os.ReadFile("/sys/class/net/" + name + "/carrier")
	return err == nil && strings.TrimSpace(string(state)) == "1"
}

func link(args arguments, _ func(any)) (any, error) {
	name, err := args.text(0)
	if err != nil {
		return nil, err
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	a := l.Attrs()
	return proto.Link{
		Name: a.Name, MAC: a.HardwareAddr.String(), MTU: a.MTU, Up: a.Flags&net.FlagUp != 0, Carrier: carrier(name),
		ReceivedPackets: a.Statistics.RxPackets, ReceivedBytes: a.Statistics.RxBytes,
		ReceiveDropped: a.Statistics.RxDropped, ReceiveErrors: a.Statistics.RxErrors,
		SentPackets: a.Statistics.TxPackets, SentBytes: a.Statistics.TxBytes,
	}, nil
}

func up(args arguments, _ func(any)) (any, error) {
	name, err := args.text(0)
	if err != nil {
		return nil, err
	}
	_, err = bringUp(name)
	return nil, err
}

func down(args arguments, _ func(any)) (any, error) {
	name, err := args.text(0)
	if err != nil {
		return nil, err
	}
	l, err := findLink(name)
	if err != nil {
		return nil, err
	}
	return nil, netlink.LinkSetDown(l)
}
