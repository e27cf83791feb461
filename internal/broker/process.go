package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// Run is the life of the broker: of a process that Client.Start has started, whose standard input is in.
func Run(in io.Reader) error {
	const socket = 3                                                    // the first after the standard streams
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT) // of a service manager; it ends with its requests
	f := os.NewFile(socket, "vring")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return fmt.Errorf("the broker is started by vring itself: %w", err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("the broker is started by vring itself")
	}
	return serve(in, unixConn)
}

// process is the broker: what it does, and what it keeps for that.
type process struct {
	Duties
	files []socketfile.File
}

// serve reads the duties, and answers requests until there are no more.
func serve(in io.Reader, conn *net.UnixConn) error {
	var p process
	if err := json.NewDecoder(io.LimitReader(in, maxDuties)).Decode(&p.Duties); err != nil {
		return err
	}
	err := errors.Join(p.remember(), p.confine())
	if err := reply(conn, nil, err); err != nil {
		return errors.Join(err, p.undo())
	}
	if err != nil {
		return nil // which vring tells
	}
	for {
		r, err := nextRequest(conn)
		if err == nil {
			err = p.handle(conn, r)
		}
		if err != nil {
			undone := p.undo()
			_ = reply(conn, nil, undone) // vring may be gone
			return undone
		}
	}
}

// remember takes note of the files that are to be removed. They stay the same ones while they are open: no other file can get
// their numbers.
func (p *process) remember() error {
	for _, path := range p.Remove {
		file, err := socketfile.Made(path)
		if err != nil {
			return err
		}
		if _, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
			return os.NewSyscallError("open", err)
		}
		p.files = append(p.files, file)
	}
	return nil
}

// confine puts the broker into a sandbox of its own.
func (p *process) confine() error {
	_, err := sandbox.Enter(sandbox.Config{
		Mode: p.Mode, Read: p.Read != "", Remove: p.Remove, Dial: p.Dial, Interfaces: len(p.Configs) > 0,
		Log: slog.New(slog.DiscardHandler), // vring tells the same of its own sandbox
	})
	return err
}

// nextRequest returns the next request. An error is that there will be none, or that its sender is not to be believed.
func nextRequest(conn *net.UnixConn) (r request, err error) {
	var message [maxRequest]byte
	n, _, flags, _, err := conn.ReadMsgUnix(message[:], nil) // descriptors that come with it are closed by the kernel
	if err != nil {
		return r, err
	}
	if flags&unix.MSG_TRUNC != 0 {
		return r, errors.New("the request is too long")
	}
	return r, json.Unmarshal(message[:n], &r)
}

// handle does what is asked for, and answers. An error is that no answer can be sent.
func (p *process) handle(conn *net.UnixConn, r request) error {
	switch r.Verb {
	case verbRead:
		if p.Read == "" {
			break
		}
		text, err := dns.ReadFile(p.Read)
		return reply(conn, text, err)
	case verbDial:
		if r.Socket < 0 || r.Socket >= len(p.Dial) {
			break
		}
		return p.dial(conn, p.Dial[r.Socket])
	case verbConnect, verbMTU:
		return reply(conn, nil, p.setUp(r))
	}
	return reply(conn, nil, fmt.Errorf("%q: nothing like that was named at the start", r.Verb))
}

// dial passes on a connection to a socket.
func (p *process) dial(to *net.UnixConn, path string) error {
	c, err := net.Dial("unix", path) // a unix socket does not let wait
	if err != nil {
		return reply(to, nil, err)
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	text, err := json.Marshal(answer{})
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { _, _, sent = to.WriteMsgUnix(text, unix.UnixRights(int(fd)), nil) })
	return errors.Join(err, sent)
}

// setUp changes a device that was named at the start.
func (p *process) setUp(r request) error {
	for i := range p.Configs {
		config := &p.Configs[i]
		switch {
		case config.Name != r.Device:
		case r.Verb == verbMTU:
			return config.SetMTU(r.MTU)
		default:
			changes, err := config.Connect()
			p.Changes[i] = changes
			return err
		}
	}
	return fmt.Errorf("%q is not a device that was named at the start", r.Device)
}

// undo leaves the host as it was before.
func (p *process) undo() error {
	var errs []error
	for i := range p.Changes {
		errs = append(errs, p.Changes[i].Undo())
	}
	for _, f := range p.files {
		errs = append(errs, f.Remove())
	}
	return errors.Join(errs...)
}
