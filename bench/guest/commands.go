package main

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/vringnet/vring/bench/adb/adbd"
	"github.com/vringnet/vring/bench/adb/errand"
	"github.com/vringnet/vring/bench/traffic"
	"github.com/vringnet/vring/integration/lab/guest/agent"
	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// commands lists what the host may ask for, with the arguments.
func commands() map[string]agent.Command {
	return map[string]agent.Command{
		"configure": configure,              // ADDRESS/LENGTH ROUTER MTU
		"ask":       ask,                    // ADDRESS:PORT TEST DURATION BYTES
		"serve":     serve,                  // ADDRESS:PORT TEST DURATION BYTES
		"errands":   listener(errand.Serve), // ADDRESS:PORT
		"adbd":      listener(adbd.Serve),   // ADDRESS:PORT
		"spawn":     agent.Spawn,            // COMMAND [ARGUMENT]...: runs it in a process of its own
	}
}

// ask is the client's end of a run.
func ask(args agent.Arguments, _ func(any)) (any, error) {
	server, plan, err := parsePlan(args)
	if err != nil {
		return nil, err
	}
	return traffic.Run(context.Background(), server, plan, traffic.NoMeter{})
}

// serve is the server's end of a run.
func serve(args agent.Arguments, event func(any)) (any, error) {
	at, plan, err := parsePlan(args)
	if err != nil {
		return nil, err
	}
	server, err := traffic.Listen(at)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	event(proto.Listening{Address: at.String()})
	return server.Serve(context.Background(), plan, traffic.NoMeter{})
}

// parsePlan reads the arguments of both.
func parsePlan(args agent.Arguments) (server netip.AddrPort, p traffic.Plan, err error) {
	var texts [3]string
	for i := range texts {
		if texts[i], err = args.Text(i); err != nil {
			return server, p, err
		}
	}
	if server, err = netip.ParseAddrPort(texts[0]); err != nil {
		return server, p, err
	}
	if p.Test, err = traffic.Find(texts[1]); err != nil {
		return server, p, err
	}
	if p.Length, err = time.ParseDuration(texts[2]); err != nil {
		return server, p, err
	}
	bytes, err := args.Number(3)
	p.Bytes = int64(bytes)
	return server, p, err
}

// listener makes a command of a service for the rest of the guest's life.
func listener(serve func(net.Listener) error) agent.Command {
	return func(args agent.Arguments, event func(any)) (any, error) {
		at, err := args.Text(0)
		if err != nil {
			return nil, err
		}
		l, err := net.Listen("tcp", at)
		if err != nil {
			return nil, err
		}
		event(proto.Listening{Address: l.Addr().String()})
		return nil, serve(l)
	}
}
