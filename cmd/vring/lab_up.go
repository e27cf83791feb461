package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/labfile"
	"github.com/vringnet/vring/internal/labrun"
)

// keeperCommand is the hidden command by which vring starts itself as the keeper of a lab.
const keeperCommand = "lab-keeper"

// Descriptors that the keeper inherits.
const (
	keeperLock   = 3 // file of the lab, locked
	keeperSocket = 4 // that it is asked at, which listens
)

func (l *labCommand) upCommand() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "up LAB.yaml", Short: "Start a lab, or what is new in its file", Args: oneLab, ValidArgsFunction: completeFile,
		Long: `Starts the network of a lab and the programs of its guests, which go on in the background, and waits until each guest that it has started has
an address by DHCP or, without NAT, its driver up. Ctrl-C meanwhile takes the lab down again.

A lab that is up adopts what has changed in its file, as vring serve does with SIGHUP: guests that are new are started, those that are gone
are ended, and programs that have ended are started again. What cannot change while guests are served is told, and nothing changes then. A
program whose command line has changed goes on as it is. If nothing is new, nothing happens.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if wait < 0 {
				return wrongUse(fmt.Errorf("--wait %v: want a time, or 0 to wait for nobody", wait))
			}
			return l.up(cmd, args[0], wait)
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", time.Minute, "how long to wait for guests at most; 0 waits for none")
	return cmd
}

// up starts the lab of a file, or lets it adopt what is new.
func (l *labCommand) up(cmd *cobra.Command, file string, wait time.Duration) error {
	place, err := l.place(file)
	if err != nil {
		return err
	}
	read, err := parseLab(file, place.Path)
	if err != nil {
		return err
	}
	plan, err := planOf(read, file, place.Path)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	done, err := apply(ctx, place, plan, func() error { return wrongFile(inDirectoryOf(file, read.Check)) })
	if err == nil {
		tellApplied(cmd.OutOrStdout(), l.called(file), done)
		err = l.awaitGuests(cmd, place, read, wait)
	}
	if ctx.Err() == nil {
		return err
	}
	if done != nil && !done.First {
		return errors.New("interrupted; the lab goes on")
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "interrupted; the lab %s is taken down\n", l.called(file))
	return errors.Join(errors.New("interrupted"), withoutDown(place.Down(context.WithoutCancel(ctx))))
}

// withoutDown is an error of taking a lab down, nil if there is none any more.
func withoutDown(err error) error {
	if errors.Is(err, labrun.ErrDown) {
		return nil
	}
	return err
}

// apply lets the keeper of a place have a plan. If there is none, it is started, if check finds nothing wrong.
func apply(ctx context.Context, place labrun.Place, plan *labrun.Plan, check func() error) (*labrun.Applied, error) {
	const attempts = 500 // a keeper is about to begin, or to end
	for range attempts {
		held, err := place.Take()
		switch {
		case err == nil:
			if err := check(); err != nil {
				return nil, errors.Join(err, held.Remove())
			}
			if err := startKeeper(held); err != nil {
				return nil, errors.Join(err, held.Remove())
			}
			_ = held.File.Close() // it is the keeper's
		case !errors.Is(err, labrun.ErrKept):
			return nil, err
		}
		done, err := place.Apply(ctx, plan)
		if !errors.Is(err, labrun.ErrDown) {
			return done, err
		}
		if !sleep(ctx, 10*time.Millisecond) {
			return nil, ctx.Err()
		}
	}
	return nil, fmt.Errorf("the keeper of the lab ends as soon as it has begun; remove %s if no lab of this name is up", place.Path)
}

// startKeeper starts the keeper of a place, which goes on when this process has ended.
func startKeeper(held *labrun.Held) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	l, err := held.Listen()
	if err != nil {
		return err
	}
	defer l.Close()
	socket, err := l.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	cmd := exec.Command(self, keeperCommand, held.Path)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{held.File, socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no signal of the terminal is for it
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// newLabKeeper is the command that is the keeper.
func newLabKeeper() *cobra.Command {
	return &cobra.Command{
		Use: keeperCommand, Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			signal.Ignore(unix.SIGHUP)
			for _, fd := range []int{keeperLock, keeperSocket} {
				unix.CloseOnExec(fd)
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			socket := os.NewFile(keeperSocket, "socket")
			l, err := net.FileListener(socket)
			if err != nil {
				return fmt.Errorf("the keeper is started by vring lab up: %w", err)
			}
			_ = socket.Close() // the listener has its own
			unixListener, ok := l.(*net.UnixListener)
			if !ok {
				return errors.New("the keeper is started by vring lab up")
			}
			held := &labrun.Held{Place: labrun.Place{Path: args[0]}, File: os.NewFile(keeperLock, labrun.Place{Path: args[0]}.LockFile())}
			return labrun.Keep(cmd.Context(), held, unixListener, []string{self})
		},
	}
}

// tellApplied tells what a lab has become.
func tellApplied(out io.Writer, name string, a *labrun.Applied) {
	if a.First {
		fmt.Fprintf(out, "the lab %s is up\n", name)
		return
	}
	for _, line := range []struct {
		what  string
		names []string
	}{
		{"changed", a.Changed}, {"started", a.Started}, {"ended", a.Stopped},
		{"their programs go on as they are; vring lab down and up start them as the file says now", a.Kept},
	} {
		if len(line.names) > 0 {
			fmt.Fprintf(out, "%s: %s\n", line.what, strings.Join(line.names, ", "))
		}
	}
	if len(a.Changed)+len(a.Started)+len(a.Stopped)+len(a.Kept) == 0 {
		fmt.Fprintf(out, "the lab %s is up already; nothing has changed\n", name)
	}
}

// lookPause is how long up sleeps before it looks at guests again.
const lookPause = 100 * time.Millisecond

// awaitGuests waits until each guest that was started is ready, and tells how they come up. The error is that one of them has no front end
// when the time is over.
func (l *labCommand) awaitGuests(cmd *cobra.Command, place labrun.Place, read *labfile.Lab, wait time.Duration) error {
	if wait == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), wait)
	defer cancel()
	client := control.NewClient(labfile.ControlSocket(place.Path))
	defer client.Close()
	told := map[string]string{}
	for {
		rows, err := look(ctx, place, client, read)
		if err != nil && ctx.Err() == nil {
			return err
		}
		all := true
		for i := range rows {
			r := &rows[i]
			if text := r.progress(); text != "" && told[r.Name] != text {
				told[r.Name] = text
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", r.Name, text)
			}
			all = all && r.settled()
		}
		if all && err == nil || !sleep(ctx, lookPause) {
			return l.missing(rows, wait)
		}
	}
}

// missing tells which guests have not come up.
func (l *labCommand) missing(rows []labGuest, wait time.Duration) error {
	var faults []error
	for i := range rows {
		switch r := &rows[i]; {
		case r.Program == nil:
		case r.failed():
			faults = append(faults, fmt.Errorf("%s has ended: %s; %s tells why", r.Name, r.Program.Ended, r.Program.Log))
		case !slices.Contains([]string{"connected", "up"}, r.FrontEnd):
			faults = append(faults, fmt.Errorf("%s has not connected in %v; what it prints is in %s", r.Name, wait, r.Program.Log))
		}
	}
	return errors.Join(faults...)
}
