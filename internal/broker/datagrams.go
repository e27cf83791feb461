package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"

	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/internal/undo"
	"github.com/vringnet/vring/internal/vfkit"
)

// Datagrams are datagram sockets of guests. The broker makes them at its start, and connects each to the front end that sends first: the server
// finds no path in its sandbox. It names one of these sockets and nothing else; whom it is connected to is said by who has sent.
type Datagrams struct {
	Paths []string
	Mode  fs.FileMode // permission bits of each
	Group int         // that each is given to, 0 for none
}

// openDatagrams makes the sockets. After an error their files are removed in the end, as all others are.
func (p *process) openDatagrams() error {
	if p.Datagrams == nil {
		return nil
	}
	for _, path := range p.Datagrams.Paths {
		fd, file, err := socketfile.ReplaceDatagrams(path, socketfile.Access{Mode: p.Datagrams.Mode, Group: p.Datagrams.Group})
		if err != nil {
			return err
		}
		p.datagrams = append(p.datagrams, fd)
		if err := p.list.AddFile(file, undo.OfGuest); err != nil {
			return errors.Join(err, file.Remove())
		}
	}
	return nil
}

// closeDatagrams leaves the host as it was before openDatagrams.
func (p *process) closeDatagrams() (err error) {
	for i, fd := range p.datagrams {
		closeDescriptors([]int{fd})
		if path := p.Datagrams.Paths[i]; p.list.Has(path) {
			err = errors.Join(err, p.list.Remove(path, undo.OfGuest))
		}
	}
	p.datagrams = nil
	return err
}

// datagram passes on socket i, or connects it.
func (p *process) datagram(to *net.UnixConn, r request) error {
	if r.Verb == verbMeet {
		return reply(to, nil, vfkit.Meet(p.datagrams[r.Socket]))
	}
	return pass(to, p.datagrams[r.Socket])
}

// Datagrams returns the datagram socket at path, which the broker has made and goes on to have open. The descriptor is the caller's.
func (c *Client) Datagrams(path string) (fd int, err error) {
	a, err := c.askDatagram(verbDatagrams, path)
	return descriptorIn(a, err)
}

// Meet connects the datagram socket at path to the front end whose datagram waits, as vfkit.Meet does.
func (c *Client) Meet(path string) error {
	_, err := c.askDatagram(verbMeet, path)
	return err
}

func (c *Client) askDatagram(verb, path string) (answer, error) {
	i := -1
	if c.duties.Datagrams != nil {
		i = slices.Index(c.duties.Datagrams.Paths, path)
	}
	if i < 0 {
		return answer{conn: -1}, fmt.Errorf("%s is not a datagram socket of the start", path)
	}
	return c.ask(request{Verb: verb, Socket: i})
}
