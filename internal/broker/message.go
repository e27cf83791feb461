package broker

import (
	"encoding/json"
	"errors"
	"net"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/internal/undo"
	"github.com/vringnet/vring/tap"
)

// Duties is all that the broker is for.
type Duties struct {
	Mode    sandbox.Mode // of the broker itself
	Read    string       // file that is read
	Config  string       // file of the configuration, of which MaxConfig bytes are read
	Dial    []string     // sockets that are connected to
	Undo    *undo.List   // what was changed on the host so far, and is undone in the end; nil for nothing
	Control string       // socket that is made, and whose connections are passed on; see Client.ListenControl
	Configs []tap.Config // devices that are set up
	Bind    *Binds       // sockets of forwards that are opened; nil for none
	Sockets *Sockets     // sockets of guests that are made; nil for none
	// Datagrams are sockets that are made, and connected to who sends first; nil for none.
	Datagrams *Datagrams
	Routes    bool       // sockets to the host's routing table are opened
	Pings     bool       // ping sockets are opened
	BootRoots []string   // directories, absolute, with files that guests boot from, which are opened
	State     *StateFile // is written; nil for none
	Learned   *StateFile // is written, too
	Audit     string     // file of the audit log, absolute: it, and others like it, are opened and moved; "" for none
}

// Empty reports whether there is nothing to do.
func (d *Duties) Empty() bool {
	return d.Read == "" && d.Config == "" && d.Control == "" && d.Bind == nil && d.Sockets == nil && d.Datagrams == nil && d.State == nil && d.Learned == nil && d.Audit == "" && !d.Pings && len(d.BootRoots)+len(d.Dial)+len(d.Configs) == 0 && !d.Removes()
}

// Removes reports whether files are removed in the end.
func (d *Duties) Removes() bool { return d.Undo != nil && len(d.Undo.Files()) > 0 }

// Verbs of requests.
const (
	verbBind    = "bind"    // a socket for a forward at Place
	verbConnect = "connect" // Device, which has come back
	verbMTU     = "mtu"     // is to be MTU, of Device
	verbUndo    = "undo"    // what was changed for Device, which is closed and not used any more
	verbDial    = "dial"    // Socket
	verbRead    = "read"    // the file Duties.Read
	verbConfig  = "config"  // is to be read
	verbUnbind  = "unbind"  // remove the file of a forward's unix socket at Place

	verbListen    = "listen"    // a guest's socket at Place
	verbUnlisten  = "unlisten"  // remove the file of a guest's socket at Place
	verbDatagrams = "datagrams" // the datagram socket Socket
	verbMeet      = "meet"      // the front end that has sent to it

	verbRoutes = "routes" // a socket to the routing table
	verbPing   = "ping"   // a ping socket, of IPv6 if V6 says so
	verbBoot   = "boot"   // the file Name of BootRoots

	verbAudit     = "audit"      // the file Name of the audit log
	verbNextAudit = "next audit" // an empty file in the place of the last one
)

// request asks for one thing.
type request struct {
	Verb    string
	Device  string `json:",omitempty"` // name
	MTU     int    `json:",omitempty"`
	Socket  int    `json:",omitempty"` // index in Duties.Dial, in Duties.Datagrams, or in Duties.BootRoots
	Place   *place `json:",omitempty"`
	News    bool   `json:",omitempty"` // the socket to the routing table is told of changes
	V6      bool   `json:",omitempty"`
	Name    []byte `json:",omitempty"` // of a boot file, or of one of the audit log
	Packets bool   `json:",omitempty"` // the guest's socket is one of packets
}

// answer tells how it went.
type answer struct {
	Error string
	Text  []byte // of the file
	conn  int    // the connection or socket, negative for none
	more  []int  // channels behind conn, which only the first answer has
}

const (
	// MaxConfig is how many bytes of the configuration's file are read.
	MaxConfig = 129 << 10
	// maxRequest bounds the broker's input, and maxAnswer its output: a file of MaxConfig bytes as JSON. A message of
	// that length fits into the socket's buffer as the kernel makes it.
	maxRequest = 512
	maxAnswer  = 192 << 10
	// maxDuties bounds what the broker is told at its start: devices have some thousand VLANs.
	maxDuties = 16 << 20
)

// drop closes a connection that nobody takes.
func (a *answer) drop() {
	if a.conn >= 0 {
		_ = unix.Close(a.conn)
	}
	closeDescriptors(a.more)
}

func closeDescriptors(all []int) {
	for _, fd := range all {
		_ = unix.Close(fd)
	}
}

// descriptorsOf returns the descriptors of a message.
func descriptorsOf(rights []byte) []int {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil
	}
	return fds
}

// descriptorOf returns the one descriptor of a message, negative for none. Of several, none stays open.
func descriptorOf(rights []byte) int {
	fds := descriptorsOf(rights)
	if len(fds) != 1 {
		closeDescriptors(fds)
		return -1
	}
	return fds[0]
}

// pass answers with a descriptor, which stays the caller's.
func pass(to *net.UnixConn, fd int) error {
	message, err := encoded(nil, nil)
	if err != nil {
		return err
	}
	return sendDescriptor(to, message, fd)
}

// sendDescriptor sends a message with a descriptor.
func sendDescriptor(to *net.UnixConn, message []byte, fd int) error {
	_, _, err := to.WriteMsgUnix(message, unix.UnixRights(fd), nil)
	return err
}

// withDescriptor calls do with the descriptor of a socket, which stays open meanwhile.
func withDescriptor(socket *net.UnixConn, do func(fd int) error) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	err = raw.Control(func(fd uintptr) { done = do(int(fd)) })
	return errors.Join(err, done)
}

// reply tells how it went.
func reply(conn *net.UnixConn, text []byte, failed error) error {
	message, err := encoded(text, failed)
	if err != nil {
		return err
	}
	_, err = conn.Write(message)
	return err
}

// encoded is an answer as it is sent.
func encoded(text []byte, failed error) ([]byte, error) {
	const maxError = 4 << 10
	a := answer{Text: text}
	if failed != nil {
		a.Error = failed.Error()
		a.Error = a.Error[:min(len(a.Error), maxError)]
	}
	return json.Marshal(a)
}
