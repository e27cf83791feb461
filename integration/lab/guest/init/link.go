package main

import (
	"net"

	"github.com/vishvananda/netlink"

	"github.com/vringnet/vring/integration/lab/guest/agent"
	"github.com/vringnet/vring/integration/lab/guest/proto"
)

func link(args agent.Arguments, _ func(any)) (any, error) {
	name, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	a := l.Attrs()
	return proto.Link{
		Name: a.Name, MAC: a.HardwareAddr.String(), MTU: a.MTU, Up: a.Flags&net.FlagUp != 0, Carrier: agent.Carrier(name),
		ReceivedPackets: a.Statistics.RxPackets, ReceivedBytes: a.Statistics.RxBytes,
		ReceiveDropped: a.Statistics.RxDropped, ReceiveErrors: a.Statistics.RxErrors,
		SentPackets: a.Statistics.TxPackets, SentBytes: a.Statistics.TxBytes,
	}, nil
}

func up(args agent.Arguments, _ func(any)) (any, error) {
	name, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	_, err = agent.BringUp(name)
	return nil, err
}

func down(args agent.Arguments, _ func(any)) (any, error) {
	name, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	l, err := agent.FindLink(name)
	if err != nil {
		return nil, err
	}
	return nil, netlink.LinkSetDown(l)
}
