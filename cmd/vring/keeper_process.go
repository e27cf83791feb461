package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// keeperCommand is the hidden command by which vring starts itself as the keeper.
const keeperCommand = "keeper"

// newKeeperCommand is the command that is the keeper.
func newKeeperCommand() *cobra.Command {
	return &cobra.Command{
		Use: keeperCommand, Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			const socket = 3                                                    // the first after the standard streams
			signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT) // of a service manager; it ends with its requests
			f := os.NewFile(socket, "vring")
			defer f.Close()
			conn, err := net.FileConn(f)
			if err != nil {
				return fmt.Errorf("%s is started by vring itself: %w", keeperCommand, err)
			}
			unixConn, ok := conn.(*net.UnixConn)
			if !ok {
				return fmt.Errorf("%s is started by vring itself", keeperCommand)
			}
			return keep(cmd.InOrStdin(), unixConn)
		},
	}
}

// duties are what the keeper does, and what it keeps for that.
type duties struct {
	keeperStart
	files []socketfile.File
}

// keep is the keeper's life. All is told at the start, by a process that serves nobody yet. Requests may come from one that
// is not to be trusted any more: they name nothing but what was told then.
func keep(in io.Reader, conn *net.UnixConn) error {
	var d duties
	if err := json.NewDecoder(io.LimitReader(in, maxStart)).Decode(&d.keeperStart); err != nil {
		return err
	}
	err := errors.Join(d.remember(), d.confine())
	if err := answer(conn, nil, err); err != nil {
		return errors.Join(err, d.undo())
	}
	if err != nil {
		return nil // which vring tells
	}
	for {
		request, err := nextRequest(conn)
		if err == nil {
			err = d.serve(conn, request)
		}
		if err != nil {
			undone := d.undo()
			_ = answer(conn, nil, undone) // vring may be gone
			return undone
		}
	}
}

// remember takes note of the files that are to be removed. They stay the same ones while they are open: no other file can get
// their numbers.
func (d *duties) remember() error {
	for _, path := range d.Remove {
		file, err := socketfile.Made(path)
		if err != nil {
			return err
		}
		if _, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
			return os.NewSyscallError("open", err)
		}
		d.files = append(d.files, file)
	}
	return nil
}

// confine puts the keeper into a sandbox of its own.
func (d *duties) confine() error {
	_, err := sandbox.Enter(sandbox.Config{
		Mode: d.Mode, Read: d.Read != "", Remove: d.Remove, Dial: d.Dial, Interfaces: len(d.Configs) > 0,
		Log: slog.New(slog.DiscardHandler), // vring tells the same of its own sandbox
	})
	return err
}

// nextRequest returns the next request. An error is that there will be none, or that its sender is not to be believed.
func nextRequest(conn *net.UnixConn) (request keeperRequest, err error) {
	var message [maxRequest]byte
	n, _, flags, _, err := conn.ReadMsgUnix(message[:], nil) // descriptors that come with it are closed by the kernel
	if err != nil {
		return request, err
	}
	if flags&unix.MSG_TRUNC != 0 {
		return request, errors.New("the request is too long")
	}
	return request, json.Unmarshal(message[:n], &request)
}

// serve does what is asked for, and answers. An error is that no answer can be sent.
func (d *duties) serve(conn *net.UnixConn, request keeperRequest) error {
	switch request.Verb {
	case verbRead:
		if d.Read == "" {
			break
		}
		text, err := dns.ReadFile(d.Read)
		return answer(conn, text, err)
	case verbDial:
		if request.Socket < 0 || request.Socket >= len(d.Dial) {
			break
		}
		return d.dial(conn, d.Dial[request.Socket])
	case verbConnect, verbMTU:
		return answer(conn, nil, d.setUp(request))
	}
	return answer(conn, nil, fmt.Errorf("%q: nothing like that was named at the start", request.Verb))
}

// dial passes on a connection to a socket.
func (d *duties) dial(to *net.UnixConn, path string) error {
	c, err := net.Dial("unix", path) // a unix socket does not let wait
	if err != nil {
		return answer(to, nil, err)
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	text, err := json.Marshal(keeperAnswer{})
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { _, _, sent = to.WriteMsgUnix(text, unix.UnixRights(int(fd)), nil) })
	return errors.Join(err, sent)
}

// setUp changes a device that was named at the start.
func (d *duties) setUp(request keeperRequest) error {
	for i := range d.Configs {
		config := &d.Configs[i]
		switch {
		case config.Name != request.Device:
		case request.Verb == verbMTU:
			return config.SetMTU(request.MTU)
		default:
			changes, err := config.Connect()
			d.Changes[i] = changes
			return err
		}
	}
	return fmt.Errorf("%q is not a device that was named at the start", request.Device)
}

// undo leaves the host as it was before.
func (d *duties) undo() error {
	var errs []error
	for i := range d.Changes {
		errs = append(errs, d.Changes[i].Undo())
	}
	for _, f := range d.files {
		errs = append(errs, f.Remove())
	}
	return errors.Join(errs...)
}

// answer tells how it went.
func answer(conn *net.UnixConn, text []byte, failed error) error {
	const maxError = 4 << 10
	a := keeperAnswer{Text: text}
	if failed != nil {
		a.Error = failed.Error()
		a.Error = a.Error[:min(len(a.Error), maxError)]
	}
	message, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = conn.Write(message)
	return err
}
