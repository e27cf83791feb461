package taps

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/vringnet/vring/bench/testbed"
	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/netns"
	"github.com/vringnet/vring/integration/lab/process"
)

// iperfResult is what iperf3 -J tells.
type iperfResult struct {
	Error string `json:"error"`
	End   struct {
		Received struct {
			Bytes int64 `json:"bytes"`
		} `json:"sum_received"`
	} `json:"end"`
}

// iperfArguments are those of the client, which is the guest or stands for it.
func iperfArguments(l load, length time.Duration) []any {
	// Large calls: a system call is dear in User-mode Linux. The same congestion control for all: the host's default may
	// be one that paces what it sends, and would be what is measured.
	args := []any{"-c", hostAddress, "-C", "cubic", "-J", "-i", "0", "-l", "256K", "-t", int(math.Ceil(length.Seconds()))}
	if l.Direction == testbed.In {
		args = append(args, "-R")
	}
	return args
}

// client runs iperf3 with arguments and returns what it prints.
type client func(args []any) (string, error)

// server is the other end of a stream, where the server is.
type server struct {
	// listen starts the server.
	listen func() error
	// count returns the bytes that the network card has sent and received there, headers included.
	count func() (sent, received uint64, err error)
}

// inHost is a server in a namespace.
func inHost(a *arena, n *netns.Namespace) server {
	return server{
		listen: func() error {
			path, err := guest.FindTool("iperf3")
			if err == nil {
				_, err = a.start(n, path, "-s")
			}
			return err
		},
		count: func() (sent, received uint64, err error) {
			c, err := counted(n)
			return c.TxBytes, c.RxBytes, err
		},
	}
}

// stream measures one stream between a client and a server, from when it is under way.
func stream(a *arena, s server, l load, length time.Duration, c client, read func() (usage, error)) (sample, error) {
	if err := s.listen(); err != nil {
		return sample{}, err
	}
	for deadline := time.Now().Add(readyLimit); ; time.Sleep(50 * time.Millisecond) {
		ended := make(chan error, 1)
		go func() { ended <- runClient(l, length, c) }()
		select {
		case err := <-ended: // the server does not listen yet
			if time.Now().After(deadline) || a.ctx.Err() != nil {
				return sample{}, fmt.Errorf("the stream has ended too early: %w", err)
			}
		case <-time.After(warmUp):
			got, err := between(s, l, length, read)
			return got, errors.Join(err, <-ended)
		}
	}
}

// runClient runs a client to its end.
func runClient(l load, length time.Duration, c client) error {
	text, err := c(iperfArguments(l, length+2*warmUp))
	if err != nil {
		return err
	}
	var result iperfResult
	if err := json.Unmarshal([]byte(text), &result); err != nil {
		return err
	}
	if result.Error != "" || result.End.Received.Bytes == 0 {
		return fmt.Errorf("iperf3 has received %d bytes: %s", result.End.Received.Bytes, result.Error)
	}
	return nil
}

// between reads counters at both ends of a while. Programs are under way at both, so that none's time is missed.
func between(s server, l load, length time.Duration, read func() (usage, error)) (got sample, err error) {
	before, usedBefore, err := reading(s, l, read)
	if err != nil {
		return got, err
	}
	start := time.Now()
	time.Sleep(length)
	after, usedAfter, err := reading(s, l, read)
	if err != nil {
		return got, err
	}
	got.Elapsed = time.Since(start)
	got.Count = after - before
	usedAfter.since(usedBefore, &got)
	if got.Count == 0 {
		return got, errors.New("nothing has passed")
	}
	return got, nil
}

// reading returns the bytes that have passed the server's card in a direction, headers included, and the processor times.
func reading(s server, l load, read func() (usage, error)) (bytes int64, used usage, err error) {
	sent, received, err := s.count()
	if err != nil {
		return 0, used, err
	}
	used, err = read()
	if l.Direction == testbed.In {
		return int64(sent), used, err
	}
	return int64(received), used, err
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

// boot waits until a guest has booted, and gives it its address.
func boot(a *arena, console *guest.Console, p *process.Process, address string) error {
	if _, err := console.WaitBoot(a.ctx); err != nil {
		return fmt.Errorf("%w: %s", err, lastLine(p.Output()))
	}
	return errors.Join(
		console.Do(a.ctx, nil, "run", "ip", "address", "add", address+prefix, "dev", card),
		console.Do(a.ctx, nil, "up", card))
}
