package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/control"
)

func (c *ctl) connectCommand() *cobra.Command {
	return &cobra.Command{
		Use: "connect GUEST:PORT | GUEST " + control.GuestPortForm, Short: "Connect standard input and output to a port of a guest", Args: connectArgs,
		ValidArgsFunction: c.completeGuest,
		Long: `Connect standard input and output to a TCP port of a guest, or of a host behind its card, without a forward. The guest sees a client
at its router's address.

  vring ctl connect 10.0.2.15:22
  vring ctl connect 10.0.2.15 10.0.2.40:80          another host behind the card of that guest
  ssh -o ProxyCommand='vring ctl connect %h %p' root@10.0.2.15

The end of standard input is passed on, and so is that of the guest, each alone: it ends when both have. The exit status is 0 then, and 1 if
there was no connection, with the reason: the guest refuses it, does not answer for half a minute, is not running, or its link is down.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			guest, to, err := splitDestination(args)
			if err := wrongUse(err, c.checkConnect(cmd)); err != nil {
				return err
			}
			return c.with(cmd, func(ctx context.Context, client *control.Client) error {
				guests, err := askGuests(ctx, client, []string{guest})
				if err != nil {
					return err
				}
				conn, err := client.Connect(ctx, guests[0].Name, to)
				if err != nil {
					return err
				}
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { _, _ = conn.CloseRead(), conn.CloseWrite() })()
				if err := join(conn, cmd.InOrStdin(), cmd.OutOrStdout()); ctx.Err() == nil {
					return err
				}
				return errors.New("interrupted; the connection is closed")
			})
		},
	}
}

// connectArgs wants a guest and a port.
func connectArgs(_ *cobra.Command, args []string) error {
	if len(args) > 2 {
		return wrongUse(fmt.Errorf("unexpected %q; want a guest and a port", args[2]))
	}
	_, _, err := splitDestination(args)
	return wrongUse(err)
}

// splitDestination returns the guest that arguments name, and the port as control.ParseGuestPort reads it.
func splitDestination(args []string) (guest, to string, err error) {
	switch len(args) {
	case 0:
	case 1:
		if i := strings.LastIndexByte(args[0], ':'); i > 0 {
			guest, to = args[0][:i], args[0][i+1:]
		}
	default:
		guest, to = args[0], args[1]
	}
	if guest == "" {
		return "", "", errors.New("want a guest and a port, as in: vring ctl connect 10.0.2.15:22")
	}
	_, err = control.ParseGuestPort(to)
	return guest, to, err
}

// checkConnect returns what is wrong with the flags of all verbs.
func (c *ctl) checkConnect(cmd *cobra.Command) error {
	switch {
	case cmd.Flags().Changed("watch"):
		return errors.New("--watch: a connection goes on anyway; leave it out")
	case cmd.Flags().Changed("output"):
		return errors.New("--output: what the guest sends is printed as it is; leave it out")
	}
	return c.check()
}

// join copies from in to conn and from conn to out, until both have ended. The end of each is passed on. The error is that something was read, and
// cannot be passed on any more.
func join(conn *control.Connection, in io.Reader, out io.Writer) error {
	sent, to := make(chan error, 1), &sender{conn: conn}
	go func() {
		_, err := io.Copy(to, in)
		_ = conn.CloseWrite() // fails if there is nobody any more, which reading tells
		sent <- err
	}()
	if _, err := io.Copy(out, conn); err != nil {
		return fmt.Errorf("the connection is lost: %w", err)
	}
	endOutput(out)
	over := make(chan struct{})
	go func() {
		defer close(over)
		awaitClose(conn)
	}()
	return awaitInput(sent, over, to)
}

// awaitInput waits until all of the input was passed on, or the connection is over. sent tells how passing it on has ended.
func awaitInput(sent <-chan error, over <-chan struct{}, to *sender) error {
	select {
	case err := <-sent:
		return notTaken(err)
	case <-over:
		if to.failing.Load() {
			return notTaken(<-sent)
		}
		return nil // what comes yet could go nowhere, so it is not read
	}
}

// notTaken tells that something of the input was lost, by the error of passing it on.
func notTaken(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the guest takes no more, and what was read last is lost: %w", err)
}

// sender writes to a connection.
type sender struct {
	conn    *control.Connection
	failing atomic.Bool // something is being written, or could not be
}

// Write implements io.Writer.
func (s *sender) Write(p []byte) (n int, err error) {
	s.failing.Store(true)
	if n, err = s.conn.Write(p); err == nil {
		s.failing.Store(false)
	}
	return n, err
}

// endOutput passes the end on to who reads the standard output, be it a pipe or a socket.
func endOutput(out io.Writer) {
	if f, ok := out.(*os.File); ok {
		_ = unix.Shutdown(int(f.Fd()), unix.SHUT_WR)
		_ = f.Close()
	}
}

// awaitClose waits until the other side has closed a connection, whose end was read.
func awaitClose(conn *control.Connection) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd)}} // the kernel always tells of a connection that is over
		for {
			if n, err := unix.Poll(poll, -1); n > 0 || err != unix.EINTR {
				return
			}
		}
	})
}
