package broker

import (
	"encoding/json"
	"net"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/tap"
)

// Duties is all that the broker is for.
type Duties struct {
	Mode    sandbox.Mode  // of the broker itself
	Read    string        // file that is read
	Dial    []string      // sockets that are connected to
	Remove  []string      // files of sockets that are removed in the end
	Configs []tap.Config  // devices that are set up
	Changes []tap.Changes // of each of them, which are undone in the end
}

// Empty reports whether there is nothing to do.
func (d *Duties) Empty() bool {
	return d.Read == "" && len(d.Dial)+len(d.Remove)+len(d.Configs) == 0
}

// Verbs of requests.
const (
	verbConnect = "connect" // Device, which has come back
	verbMTU     = "mtu"     // is to be MTU, of Device
	verbDial    = "dial"    // Socket
	verbRead    = "read"    // the file
)

// request asks for one thing.
type request struct {
	Verb   string
	Device string `json:",omitempty"` // name
	MTU    int    `json:",omitempty"`
	Socket int    `json:",omitempty"` // index in Duties.Dial
}

// answer tells how it went.
type answer struct {
	Error string
	Text  []byte // of the file
	conn  int    // the connection, negative for none
}

const (
	// maxRequest bounds the broker's input, and maxAnswer its output: a file of dns.MaxFile bytes as JSON.
	maxRequest = 512
	maxAnswer  = 64 << 10
	// maxDuties bounds what the broker is told at its start: devices have some thousand VLANs.
	maxDuties = 16 << 20
)

// drop closes a connection that nobody takes.
func (a *answer) drop() {
	if a.conn >= 0 {
		_ = unix.Close(a.conn)
	}
}

// descriptorOf returns the one descriptor of a message, negative for none.
func descriptorOf(rights []byte) int {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1
	}
	return fds[0]
}

// reply tells how it went.
func reply(conn *net.UnixConn, text []byte, failed error) error {
	const maxError = 4 << 10
	a := answer{Text: text}
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
