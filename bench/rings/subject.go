package main

import (
	"context"
	"errors"
	"os/exec"
	"strconv"
	"time"

	"github.com/vringnet/vring/bench/lab"
	"github.com/vringnet/vring/bench/rings/ceiling"
	"github.com/vringnet/vring/integration/testpmd"
	"github.com/vringnet/vring/vhostuser"
)

const (
	nameDPDK    = "net_vhost"
	nameCeiling = "ceiling"

	// backProcessor is the back end's. The front end has 0, see package testpmd.
	backProcessor = 1
)

// subject is a back end to measure.
type subject interface {
	name() string
	// start serves one front end on the socket, and returns when it can connect. dir is for files of the run.
	start(ctx context.Context, l load, socket, dir string) (stop func() error, err error)
}

// dpdk is testpmd with its vhost driver.
type dpdk struct{}

func (dpdk) name() string { return nameDPDK }

func (dpdk) start(ctx context.Context, l load, socket, dir string) (func() error, error) {
	peer, err := testpmd.Start(ctx, testpmd.Options{
		Socket: socket, Backend: true, Dir: dir, Mode: parts()[l.Mode].dpdk, FrameSize: l.FrameSize, HugePages: l.HugePages,
	})
	if err != nil {
		return nil, err
	}
	if err := peer.Forward(); err != nil {
		return nil, errors.Join(err, peer.Kill())
	}
	return peer.Kill, nil
}

func (b build) name() string { return b.label }

func (b build) start(ctx context.Context, l load, socket, _ string) (func() error, error) {
	args := []string{"stub", "--socket-path", socket, "--mode", string(l.Mode), "--cpus", strconv.Itoa(backProcessor)}
	if l.Mode == source {
		args = append(args, "--size", strconv.Itoa(l.FrameSize))
	}
	p, err := lab.Launch(ctx, exec.Command(b.path, args...), lab.SaysReady)
	if err != nil {
		return nil, err
	}
	return p.Kill, nil
}

// limit is the device that tells the front end's limit. It runs in this process, which sleeps otherwise.
type limit struct{}

func (limit) name() string { return nameCeiling }

func (limit) start(ctx context.Context, l load, socket, _ string) (func() error, error) {
	device := ceiling.New(parts()[l.Mode].ceiling, l.FrameSize, backProcessor)
	server, err := vhostuser.NewServer(vhostuser.Config{SocketPath: socket, Device: device, FD: -1})
	if err != nil {
		device.Close()
		return nil, err
	}
	serving, end := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- server.Serve(serving) }()
	return func() error {
		end()
		defer device.Close()
		select {
		case err := <-served:
			return err
		case <-time.After(time.Minute):
			return errors.New("the ceiling's session does not end")
		}
	}, nil
}
