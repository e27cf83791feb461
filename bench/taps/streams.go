package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/vringnet/vring/bench/lab"
	"github.com/vringnet/vring/integration/guest"
	"github.com/vringnet/vring/integration/guest/proto"
	"github.com/vringnet/vring/integration/netns"
	"github.com/vringnet/vring/integration/process"
)

// iperfResult is what iperf3 -J tells.
type iperfResult struct {
	Error string `json:"error"`
	End   struct {
		Received struct {
			Seconds float64 `json:"seconds"`
			Bytes   int64   `json:"bytes"`
		} `json:"sum_received"`
	} `json:"end"`
}

// iperfArguments are those of the client, which is the guest or stands for it.
func iperfArguments(l load, length time.Duration) []any {
	// Large calls: a system call is dear in User-mode Linux.
	args := []any{"-c", hostAddress, "-J", "-i", "0", "-l", "256K", "-t", int(length.Seconds())}
	if l.Direction == lab.In {
		args = append(args, "-R")
	}
	return args
}

// client runs iperf3 with arguments and returns what it prints.
type client func(args []any) (string, error)

// stream sends one stream between a client and a server in the namespace n.
func stream(a *arena, n *netns.Namespace, l load, length time.Duration, c client, read func() (usage, error)) (sample, error) {
	path, err := guest.FindTool("iperf3")
	if err != nil {
		return sample{}, err
	}
	if _, err := a.start(n, path, "-s"); err != nil {
		return sample{}, err
	}
	for deadline := time.Now().Add(readyLimit); ; time.Sleep(50 * time.Millisecond) {
		got, err := streamOnce(l, length, c, read)
		if err == nil || time.Now().After(deadline) || a.ctx.Err() != nil {
			return got, err
		}
	}
}

// streamOnce fails if the server does not listen yet.
func streamOnce(l load, length time.Duration, c client, read func() (usage, error)) (got sample, err error) {
	before, err := read()
	if err != nil {
		return got, err
	}
	text, err := c(iperfArguments(l, length))
	if err != nil {
		return got, err
	}
	after, err := read()
	if err != nil {
		return got, err
	}
	var result iperfResult
	if err := json.Unmarshal([]byte(text), &result); err != nil {
		return got, err
	}
	if result.Error != "" {
		return got, errors.New(result.Error)
	}
	if got.Count = result.End.Received.Bytes; got.Count == 0 {
		return got, fmt.Errorf("iperf3 has received nothing: %s", text)
	}
	got.Elapsed = seconds(result.End.Received.Seconds)
	after.since(before, &got)
	return got, nil
}

// inGuest is a client in a guest.
func inGuest(a *arena, console *guest.Console) client {
	return func(args []any) (string, error) {
		var out proto.Text
		err := console.Do(a.ctx, &out, "run", append([]any{"iperf3"}, args...)...)
		return out.Text, err
	}
}

// inNamespace is a client in a namespace.
func inNamespace(n *netns.Namespace) client {
	return func(args []any) (string, error) {
		line := "iperf3"
		for _, arg := range args {
			line += fmt.Sprint(" ", arg)
		}
		return n.Run(line)
	}
}

// boot waits until a guest has booted, and configures its network.
func boot(a *arena, console *guest.Console, p *process.Process) error {
	if _, err := console.WaitBoot(a.ctx); err != nil {
		return fmt.Errorf("%w: %s", err, lastLine(p.Output()))
	}
	return errors.Join(
		console.Do(a.ctx, nil, "run", "ip", "address", "add", peerAddress+prefix, "dev", "eth0"),
		console.Do(a.ctx, nil, "up", "eth0"))
}
