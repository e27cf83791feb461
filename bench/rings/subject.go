package rings

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/vringnet/vring/bench/rings/ceiling"
	"github.com/vringnet/vring/bench/testbed"
	"github.com/vringnet/vring/integration/lab/testpmd"
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
	start(ctx context.Context, l load, socket, dir string) (running, error)
}

// running is a back end at work.
type running struct {
	stop func() error
	// output returns the end of what a back end that tells its garbage collections has printed; nil for the others.
	output func() string
}

// dpdk is testpmd with its vhost driver.
type dpdk struct{}

func (dpdk) name() string { return nameDPDK }

func (dpdk) start(ctx context.Context, l load, socket, dir string) (running, error) {
	peer, err := testpmd.Start(ctx, testpmd.Options{
		Socket: socket, Backend: true, Dir: dir, Mode: parts()[l.Mode].dpdk, FrameSize: l.FrameSize, HugePages: l.HugePages,
	})
	if err != nil {
		return running{}, err
	}
	if err := peer.Forward(); err != nil {
		return running{}, errors.Join(err, peer.Kill())
	}
	return running{stop: peer.Kill}, nil
}

func (b build) name() string { return b.label }

func (b build) start(ctx context.Context, l load, socket, _ string) (running, error) {
	args := []string{"stub", "--socket-path", socket, "--mode", string(l.Mode), "--cpus", strconv.Itoa(backProcessor)}
	if l.Mode == source {
		args = append(args, "--size", strconv.Itoa(l.FrameSize))
	}
	cmd := exec.Command(b.path, args...)
	cmd.Env = append(os.Environ(), traceCollections)
	p, err := testbed.Launch(ctx, cmd, testbed.SaysReady)
	if err != nil {
		return running{}, err
	}
	return running{p.Kill, p.Output}, nil
}

// limit is the device that tells the front end's limit. It runs in this process, which sleeps otherwise.
type limit struct{}

func (limit) name() string { return nameCeiling }

func (limit) start(ctx context.Context, l load, socket, _ string) (running, error) {
	device := ceiling.New(parts()[l.Mode].ceiling, l.FrameSize, backProcessor)
	server, err := vhostuser.NewServer(vhostuser.Config{SocketPath: socket, Device: device, FD: -1})
	if err != nil {
		device.Close()
		return running{}, err
	}
	serving, end := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- server.Serve(serving) }()
	return running{stop: func() error {
		end()
		defer device.Close()
		select {
		case err := <-served:
			return err
		case <-time.After(time.Minute):
			return errors.New("the ceiling's session does not end")
		}
	}}, nil
}
