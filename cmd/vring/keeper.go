package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/vringnet/vring/cmd/vring/doctor"
	"github.com/vringnet/vring/tap"
)

// keeperCommand is the hidden command by which vring starts itself as the keeper.
const keeperCommand = "tap-keeper"

// keeper is a process beside this one that has the right to set up interfaces, which this process gives up before it
// serves a guest: it changes MTUs, sets up devices that have come back, and at the end undoes what was changed on the
// host, also if this process is killed. It talks to no guest, and touches no interfaces but those that it is told of at
// its start. It implements tap.Administrator.
//
// The two speak JSON: one keeperStart, then keeperRequests. A keeperAnswer follows each of them, and one the end of input.
type keeper struct {
	// patience is how long an answer may take that a worker's thread waits for: less than worker.ReleaseTimeout.
	patience time.Duration

	mu     sync.Mutex
	in     *os.File // the keeper's input
	out    *os.File // and output
	answer *json.Decoder
	broken error // an answer is missing, so the next one would be another's
}

var _ tap.Administrator = (*keeper)(nil)

// keeperStart is all that the keeper is for.
type keeperStart struct {
	Configs []tap.Config
	Changes []tap.Changes // of each
}

// keeperRequest asks for one thing.
type keeperRequest struct {
	Device string
	MTU    int // to be set; 0 asks to connect the device
}

type keeperAnswer struct{ Error string }

// startKeeper starts the keeper of devices. Without the right to change anything there is nothing for it to do: the
// result is nil then, which undo takes.
func startKeeper(configs []tap.Config, devices []*tap.Device) (*keeper, error) {
	if !doctor.HasNetAdmin() {
		return nil, nil
	}
	start := keeperStart{Configs: configs}
	for _, d := range devices {
		start.Changes = append(start.Changes, d.Changes())
	}
	const generous = 10 * time.Second
	k, err := runKeeper()
	if err == nil {
		err = errors.Join(json.NewEncoder(k.in).Encode(start), k.hear(generous))
	}
	if err != nil {
		return nil, fmt.Errorf("start the process that keeps the right to set up interfaces: %w", err)
	}
	for _, d := range devices {
		d.Administrate(k)
	}
	return k, nil
}

func runKeeper() (*keeper, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, keeperCommand)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no signal of the terminal is for it
	in, toKeeper, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	fromKeeper, out, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, in.Close(), toKeeper.Close())
	}
	cmd.Stdin, cmd.Stdout = in, out
	if err := errors.Join(cmd.Start(), in.Close(), out.Close()); err != nil {
		return nil, errors.Join(err, toKeeper.Close(), fromKeeper.Close())
	}
	return newKeeper(toKeeper, fromKeeper), nil
}

// newKeeper is a keeper behind two pipes.
func newKeeper(in, out *os.File) *keeper {
	return &keeper{patience: 500 * time.Millisecond, in: in, out: out, answer: json.NewDecoder(out)}
}

// Connect implements tap.Administrator.
func (k *keeper) Connect(device string) error { return k.ask(keeperRequest{Device: device}) }

// SetMTU implements tap.Administrator.
func (k *keeper) SetMTU(device string, mtu int) error {
	return k.ask(keeperRequest{Device: device, MTU: mtu})
}

func (k *keeper) ask(request keeperRequest) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.broken != nil {
		return k.broken
	}
	if err := json.NewEncoder(k.in).Encode(request); err != nil {
		k.broken = err
		return err
	}
	return k.hear(k.patience)
}

// hear waits for an answer.
func (k *keeper) hear(patience time.Duration) error {
	var answer keeperAnswer
	if err := errors.Join(k.out.SetReadDeadline(time.Now().Add(patience)), k.answer.Decode(&answer)); err != nil {
		k.broken = fmt.Errorf("the process that sets up interfaces does not answer: %w", err)
		return k.broken
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}

// undo has the keeper undo what was changed, and waits for it.
func (k *keeper) undo() error {
	const patience = 10 * time.Second
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return errors.Join(k.in.Close(), k.hear(patience))
}

// newKeeperCommand is the command that is the keeper.
func newKeeperCommand() *cobra.Command {
	return &cobra.Command{
		Use: keeperCommand, Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT) // of a service manager; it ends with its input
			keepNetAdmin()
			return keep(cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

// keepNetAdmin gives up all rights but that to set up interfaces.
func keepNetAdmin() {
	set := cap.NewSet()
	_ = set.SetFlag(cap.Permitted, true, cap.NET_ADMIN) // the flags exist, so nothing can fail
	_ = set.SetFlag(cap.Effective, true, cap.NET_ADMIN)
	_ = set.SetProc() // what cannot be given up stays
}

// keep is the keeper's life.
func keep(in io.Reader, out io.Writer) error {
	requests, answers := json.NewDecoder(in), json.NewEncoder(out)
	var start keeperStart
	if err := requests.Decode(&start); err != nil {
		return err
	}
	err := answers.Encode(keeperAnswer{})
	for err == nil {
		var request keeperRequest
		if requests.Decode(&request) != nil {
			return answers.Encode(answerOf(start.undo()))
		}
		err = answers.Encode(answerOf(start.do(request)))
	}
	return errors.Join(err, start.undo())
}

func answerOf(err error) keeperAnswer {
	if err != nil {
		return keeperAnswer{err.Error()}
	}
	return keeperAnswer{}
}

// do does what is asked for.
func (s *keeperStart) do(request keeperRequest) error {
	for i := range s.Configs {
		config := &s.Configs[i]
		switch {
		case config.Name != request.Device:
		case request.MTU != 0:
			return config.SetMTU(request.MTU)
		default:
			changes, err := config.Connect()
			s.Changes[i] = changes
			return err
		}
	}
	return fmt.Errorf("%q is not a device that was named at the start", request.Device)
}

func (s *keeperStart) undo() error {
	var errs []error
	for i := range s.Changes {
		errs = append(errs, s.Changes[i].Undo())
	}
	return errors.Join(errs...)
}
