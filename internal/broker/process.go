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
	"golang.org/x/time/rate"

	"github.com/vringnet/vring/internal/regularfile"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/internal/undo"
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
	binder    binder
	sockets   guestSockets
	list      *undo.List       // of all that was changed on the host
	control   *controlListener // nil for none
	datagrams []int            // sockets, in the order of Datagrams.Paths
	channel   *net.UnixConn    // to the server, for connections to the control socket

	pingPace *rate.Limiter
	boot     bootRoots
	keepers  []*stateKeeper // of Duties.State and Duties.Learned
	audit    auditKeeper
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
	p.list = p.Undo
	if p.list == nil {
		p.list = new(undo.List)
	}
	begun, err := p.begin(conn)
	if err != nil {
		return errors.Join(err, p.undo())
	}
	if !begun {
		return errors.Join(p.undoBeginning(), p.closeKept(), p.audit.close()) // vring tells why, and undoes the rest
	}
	return p.answer(conn)
}

// answer answers requests until there are no more, and undoes what was changed on the host then. So it does if it meets a fault of its own.
func (p *process) answer(conn *net.UnixConn) error {
	defer func() {
		if fault := recover(); fault != nil {
			_ = p.undo()
			panic(fault)
		}
	}()
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

// begin makes ready for requests, and tells vring whether it is. With that go the server's ends of the channels for connections to
// the control socket and for files that are kept, if there are any. An error is that vring cannot be told.
func (p *process) begin(conn *net.UnixConn) (begun bool, err error) {
	connections, failed := p.openControl()
	defer func() { _ = connections.Close() }() // fails if there is none
	kept, err := p.openKept()
	defer closeAll(kept)
	failed = errors.Join(failed, err, p.openDatagrams(), p.boot.open(p.BootRoots), p.audit.open(p.Audit))
	p.remember()
	if failed == nil {
		failed = p.confine()
	}
	for _, k := range p.keepers {
		go k.run()
	}
	message, err := encoded(nil, failed)
	if err != nil {
		return false, err
	}
	var rights []byte
	if failed == nil {
		rights = rightsTo(append([]*os.File{connections}, kept...)...)
	}
	if connections != nil && failed == nil {
		go p.pass()
	}
	_, _, err = conn.WriteMsgUnix(message, rights, nil)
	return failed == nil, err
}

// rightsTo are descriptors as a message has them; nil is none.
func rightsTo(files ...*os.File) []byte {
	var fds []int
	for _, f := range files {
		if f != nil {
			fds = append(fds, int(f.Fd()))
		}
	}
	if len(fds) == 0 {
		return nil
	}
	return unix.UnixRights(fds...)
}

// undoBeginning leaves the host as it was before begin.
func (p *process) undoBeginning() error {
	undone := p.closeDatagrams()
	if p.control == nil {
		return undone
	}
	return errors.Join(undone, p.list.Remove(p.Control, undo.OfProcess), p.control.close())
}

// remember takes note of what is to be known of the host before the broker is confined.
func (p *process) remember() {
	p.sockets, p.pingPace = newGuestSockets(p.Sockets), newPingPace()
	if p.Bind != nil {
		p.binder = newBinder(*p.Bind)
	}
	if p.Bind != nil || p.Sockets != nil {
		unix.Umask(0o077 &^ int(p.sockets.Mode)) // a socket's file has no more rights from the beginning
	}
}

// confine puts the broker into a sandbox of its own.
func (p *process) confine() error {
	c := sandbox.Config{
		Mode: p.Mode, Read: p.Read != "" || p.Config != "" || len(p.BootRoots) > 0, Remove: p.list.Files(), Dial: p.Dial, Interfaces: len(p.Configs) > 0,
		Log: slog.New(slog.DiscardHandler), // vring tells the same of its own sandbox
	}
	if p.Bind != nil {
		c.Bind, c.BindPrivileged, c.MakeIn = true, p.binder.privileged(), p.Bind.Dirs
	}
	c.MakeIn, c.GiveGroup, c.Routes = append(slices.Clone(c.MakeIn), p.sockets.Dirs...), p.sockets.Group != 0, p.Routes
	c.Pings, c.Meets, c.Undumpable = p.Pings, len(p.datagrams) > 0, true
	for _, k := range p.keepers {
		c.Keep = append(c.Keep, sandbox.Kept{Path: k.place.Path(), In: k.place.Directory()})
	}
	if p.audit.place != nil {
		c.Logs = []sandbox.Kept{{Path: p.audit.place.Path(), In: p.audit.place.Directory()}}
	}
	_, err := sandbox.Enter(c)
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
			return p.listen(conn, r.Place.Path, r.Packets)
		}
		return p.unlisten(conn, r.Place.Path)
	case verbDatagrams, verbMeet:
		if r.Socket < 0 || r.Socket >= len(p.datagrams) {
			break
		}
		return p.datagram(conn, r)
	case verbRoutes:
		if !p.Routes {
			break
		}
		return p.openRoutes(conn, r.News)
	case verbPing:
		if !p.Pings {
			break
		}
		return p.openPing(conn, r.V6)
	case verbBoot:
		if r.Socket < 0 || r.Socket >= len(p.boot.roots) {
			break
		}
		return p.boot.pass(conn, r.Socket, string(r.Name))
	case verbAudit, verbNextAudit:
		if p.audit.place == nil {
			break
		}
		return p.audit.pass(conn, r)
	case verbConnect, verbMTU, verbUndo:
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
		case r.Verb == verbUndo:
			p.Configs = slices.Delete(p.Configs, i, i+1)
			return p.list.UndoDevice(r.Device)
		default:
			changes, err := config.Connect()
			if changes.TAP != "" { // it was there
				p.list.SetDevice(changes)
			}
			return err
		}
	}
	return fmt.Errorf("%q is not a device that was named at the start", r.Device)
}

// undo accepts nobody any more, and leaves the host as it was before.
func (p *process) undo() error {
	undone := p.list.Undo()
	if p.control != nil {
		undone = errors.Join(undone, p.control.close())
	}
	return errors.Join(undone, p.audit.close(), p.closeKept()) // which may wait for the disk
}
