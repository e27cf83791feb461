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
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/regularfile"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// Run is the life of the broker: of a process that a Starter has started, whose standard input is in. It ends at once if it is
// told no duties.
func Run(in io.Reader) error {
	const socket = 3 // the first after the standard streams
	// Signals that are sent to all processes of a service are for the others. This one ends with its requests.
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1)
	conn, err := SocketOf(os.NewFile(socket, "vring"))
	if err != nil {
		return fmt.Errorf("the broker is started by vring itself: %w", err)
	}
	return serve(in, conn)
}

// process is the broker: what it does, and what it keeps for that.
type process struct {
	Duties
	binder  binder
	sockets guestSockets
	files   map[string]madeFile // by their paths
	control *controlListener    // nil for none
	channel *net.UnixConn       // to the server, for connections to the control socket
}

// serve reads the duties, and answers requests until there are no more.
func serve(in io.Reader, conn *net.UnixConn) error {
	var p process
	err := json.NewDecoder(io.LimitReader(in, maxDuties)).Decode(&p.Duties)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	begun, err := p.begin(conn)
	if err != nil {
		return errors.Join(err, p.undo())
	}
	if !begun {
		return p.closeControl() // vring tells why, and undoes the rest
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

// begin makes ready for requests, and tells vring whether it is. With that goes the server's end of the channel for connections to
// the control socket, if there is one. An error is that vring cannot be told.
func (p *process) begin(conn *net.UnixConn) (begun bool, err error) {
	theirs, failed := p.openControl()
	defer func() { _ = theirs.Close() }() // fails if there is none
	failed = errors.Join(failed, p.remember(), p.confine())
	message, err := encoded(nil, failed)
	if err != nil {
		return false, err
	}
	var rights []byte
	if theirs != nil && failed == nil {
		rights = unix.UnixRights(int(theirs.Fd()))
		go p.pass()
	}
	_, _, err = conn.WriteMsgUnix(message, rights, nil)
	return failed == nil, err
}

// remember takes note of the files that are to be removed, and of what is to be known of the host before the broker is confined.
func (p *process) remember() error {
	p.files = map[string]madeFile{}
	for _, path := range p.Remove {
		file, err := socketfile.Made(path)
		if err != nil {
			return err
		}
		fd, err := holdOpen(path)
		if err != nil {
			return err
		}
		p.files[path] = madeFile{file, fd, p.ownerOf(path)}
	}
	p.sockets = newGuestSockets(p.Sockets)
	if p.Bind != nil {
		p.binder = newBinder(*p.Bind)
	}
	if p.Bind != nil || p.Sockets != nil {
		unix.Umask(0o077 &^ int(p.sockets.Mode)) // a socket's file has no more rights from the beginning
	}
	return nil
}

// ownerOf tells whose a socket of the start is.
func (p *process) ownerOf(path string) fileOwner {
	switch {
	case p.Bind != nil && slices.Contains(p.Bind.Files, path):
		return ofForward
	case p.Sockets != nil && slices.Contains(p.Sockets.Files, path):
		return ofGuest
	}
	return ofNobody
}

// confine puts the broker into a sandbox of its own.
func (p *process) confine() error {
	c := sandbox.Config{
		Mode: p.Mode, Read: p.Read != "" || p.Config != "", Remove: p.removed(), Dial: p.Dial, Interfaces: len(p.Configs) > 0,
		Log: slog.New(slog.DiscardHandler), // vring tells the same of its own sandbox
	}
	if p.Bind != nil {
		c.Bind, c.BindPrivileged, c.MakeIn = true, p.binder.privileged(), p.Bind.Dirs
	}
	c.MakeIn, c.GiveGroup, c.Routes = append(slices.Clone(c.MakeIn), p.sockets.Dirs...), p.sockets.Group != 0, p.Routes
	_, err := sandbox.Enter(c)
	return err
}

// removed are the files that are removed in the end.
func (p *process) removed() []string {
	if p.Control == "" {
		return p.Remove
	}
	return append(slices.Clone(p.Remove), p.Control)
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
	case verbConfig:
		if p.Config == "" {
			break
		}
		text, err := regularfile.Read(p.Config, MaxConfig)
		return reply(conn, text, err)
	case verbDial:
		if r.Socket < 0 || r.Socket >= len(p.Dial) {
			break
		}
		return p.dial(conn, p.Dial[r.Socket])
	case verbBind, verbUnbind:
		if p.Bind == nil || r.Place == nil {
			break
		}
		if r.Verb == verbBind {
			return p.bind(conn, r.Place)
		}
		return p.unbind(conn, r.Place)
	case verbListen, verbUnlisten:
		if p.Sockets == nil || r.Place == nil {
			break
		}
		if r.Verb == verbListen {
			return p.listen(conn, r.Place.Path)
		}
		return p.unlisten(conn, r.Place.Path)
	case verbRoutes:
		if !p.Routes {
			break
		}
		return p.openRoutes(conn, r.News)
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
	return withDescriptor(c.(*net.UnixConn), func(fd int) error { return pass(to, fd) })
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
	errs := []error{p.closeControl()}
	for i := range p.Changes {
		errs = append(errs, p.Changes[i].Undo())
	}
	for _, f := range p.files {
		errs = append(errs, f.remove())
	}
	return errors.Join(errs...)
}

// closeControl accepts nobody any more, and removes the control socket's file.
func (p *process) closeControl() error {
	if p.control == nil {
		return nil
	}
	return p.control.close()
}
