package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/internal/undo"
	"github.com/vringnet/vring/netbackend/nat/routesocket"
)

// Sockets is where the broker makes sockets of guests that are added while others are served: in directories in which guests of the start
// have theirs. A process in a guest's hands chooses the name, and nothing else: it takes the place of no file, and who may connect is who
// could at the start.
type Sockets struct {
	Dirs  []string
	Mode  fs.FileMode // permission bits of each
	Group int         // that each is given to, 0 for none
}

// SocketsBeside returns where sockets may be made beside those of the start: in their directories, but not in one in which anybody may make
// files, as in /tmp. There, a name can be one that another program is about to use.
func SocketsBeside(files []string, access socketfile.Access, writable func(dir string) bool) *Sockets {
	s := &Sockets{Mode: access.Mode, Group: access.Group}
	for _, path := range files {
		if dir := filepath.Dir(path); !slices.Contains(s.Dirs, dir) && !writable(dir) {
			s.Dirs = append(s.Dirs, dir)
		}
	}
	return s
}

const (
	// listenBurst is how many sockets of guests may be made at once, and listenRate how many each second in the long run.
	listenBurst, listenRate = 256, 20
	// routesBurst and routesRate are the same of sockets to the routing table: each queue pair of a guest has two.
	routesBurst, routesRate = 4096, 200
)

// guestSockets makes sockets of guests.
type guestSockets struct {
	Sockets
	pace   *rate.Limiter
	routes *rate.Limiter // of sockets to the routing table
}

func newGuestSockets(s *Sockets) guestSockets {
	g := guestSockets{pace: rate.NewLimiter(listenRate, listenBurst), routes: rate.NewLimiter(routesRate, routesBurst)}
	if s != nil {
		g.Sockets = *s
	}
	return g
}

// Check returns why a socket must not be made at path.
func (s *Sockets) Check(path string) error {
	dir := filepath.Dir(path)
	switch {
	case path == "" || strings.ContainsRune(path, 0) || strings.HasPrefix(path, "@") || filepath.Clean(path) != path:
		return fmt.Errorf("%q: want the path of a file, without what does not change it", path)
	case !slices.Contains(s.Dirs, dir):
		return fmt.Errorf("%s: a guest that is added has its socket beside one of the start, in a directory in which not everybody may make files; "+
			"those are %q", path, s.Dirs)
	}
	return socketfile.CheckLength(path)
}

// listenBacklog is how many front ends may wait to be accepted, as at the start.
const listenBacklog = 4096

// listen makes the socket of a guest and passes it on.
func (p *process) listen(to *net.UnixConn, path string, packets bool) error {
	if err := p.sockets.Check(path); err != nil {
		return reply(to, nil, err)
	}
	if !p.sockets.pace.AllowN(time.Now(), 1) {
		return reply(to, nil, fmt.Errorf("more than %d guests are added in a second; try again later", listenRate))
	}
	if p.list.Len() >= maxFiles {
		return reply(to, nil, fmt.Errorf("there are %d unix sockets already, which is the most there may be", maxFiles))
	}
	listen := socketfile.Listen
	if packets {
		listen = socketfile.ListenPackets
	}
	fd, err := listen(path, socketfile.Access{Mode: p.sockets.Mode, Group: p.sockets.Group}, listenBacklog)
	if errors.Is(err, unix.EADDRINUSE) {
		err = fmt.Errorf("%s exists already; remove it if nobody uses it, or choose another path", path)
	}
	if err != nil {
		return reply(to, nil, err)
	}
	defer unix.Close(fd)
	file, err := socketfile.Made(path)
	if err == nil {
		err = p.list.AddFile(file, undo.OfGuest)
	}
	if err != nil {
		return reply(to, nil, errors.Join(err, file.Remove()))
	}
	return pass(to, fd)
}

// unlisten removes the file of a guest's socket.
func (p *process) unlisten(to *net.UnixConn, path string) error {
	return reply(to, nil, p.list.Remove(path, undo.OfGuest))
}

// openRoutes opens a socket to the host's routing table and passes it on.
func (p *process) openRoutes(to *net.UnixConn, news bool) error {
	if !p.sockets.routes.AllowN(time.Now(), 1) {
		return reply(to, nil, fmt.Errorf("more than %d sockets to the routing table in a second; try again later", routesRate))
	}
	fd, err := routesocket.Open(news)
	if err != nil {
		return reply(to, nil, err)
	}
	defer unix.Close(fd)
	return pass(to, fd)
}

// Listens reports whether the broker makes sockets of guests, and removes their files.
func (c *Client) Listens() bool { return c.duties.Sockets != nil }

// Listen makes the socket of a guest at path, and listens on it: one of packets (SOCK_SEQPACKET), or a stream. The descriptor is the caller's; the file stays the broker's, see Unlisten.
func (c *Client) Listen(path string, packets bool) (fd int, err error) {
	a, err := c.ask(request{Verb: verbListen, Packets: packets, Place: &place{Path: path}})
	return descriptorIn(a, err)
}

// Unlisten removes the file of a guest's socket, which is closed, unless another one has taken its place.
func (c *Client) Unlisten(path string) error {
	_, err := c.ask(request{Verb: verbUnlisten, Place: &place{Path: path}})
	return err
}

// OpenRoutes opens a socket to the host's routing table, as package routesocket does.
func (c *Client) OpenRoutes(news bool) (fd int, err error) {
	if !c.duties.Routes {
		return routesocket.Open(news)
	}
	a, err := c.ask(request{Verb: verbRoutes, News: news})
	return descriptorIn(a, err)
}

// descriptorIn is the descriptor of an answer.
func descriptorIn(a answer, err error) (int, error) {
	switch {
	case err != nil:
		return -1, err
	case a.conn < 0:
		return -1, errors.New("the process that opens sockets has sent none")
	}
	return a.conn, nil
}
