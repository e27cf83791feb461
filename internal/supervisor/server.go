package supervisor

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/servicemanager"
)

// variable is set in the environment of a server.
const variable = "VRING_SERVER"

// inheritance is what a server gets from its supervisor: numbers of descriptors, and what is to be told.
type inheritance struct {
	Broker   int    // socket towards the broker
	Duties   int    // pipe to the broker's standard input
	Requests int    // pipe of what the server is asked for
	States   int    // pipe to the supervisor, of states for the service manager
	Shares   string // why the namespaces are the host's; "" if they are the server's own
	Becoming
}

// environment is that of this process, with what a server inherits.
func (i inheritance) environment() []string {
	text, err := json.Marshal(i)
	if err != nil {
		panic(err) // numbers and a string
	}
	return append(os.Environ(), variable+"="+string(text))
}

// Requests. The end of the pipe asks for the end.
const (
	requestStatus = 's' // for the status
	requestReload = 'r' // for the configuration to be read again
)

// Server is what the process that serves guests has from its supervisor.
type Server struct {
	// Shares is why the namespaces are the host's; "" if they are the server's own, so that it can have an empty root.
	Shares string
	Becoming

	conn     *net.UnixConn
	duties   *os.File
	requests *os.File
	states   *os.File
}

// IsServer reports whether this process has a supervisor, which Inherit has not been asked about.
func IsServer() bool {
	_, is := os.LookupEnv(variable)
	return is
}

// Inherit returns what this process has from its supervisor, nil if it has none. It is called once, by the process that serves
// guests, before it starts others.
func Inherit() (*Server, error) {
	text, ok := os.LookupEnv(variable)
	if !ok {
		return nil, nil
	}
	if err := os.Unsetenv(variable); err != nil {
		return nil, err
	}
	var i inheritance
	if err := json.Unmarshal([]byte(text), &i); err != nil {
		return nil, fmt.Errorf("%s is set by vring itself: %w", variable, err)
	}
	conn, err := broker.SocketOf(inherited(i.Broker, "broker"))
	if err != nil {
		return nil, fmt.Errorf("%s is set by vring itself: %w", variable, err)
	}
	if err := unix.SetNonblock(i.Requests, true); err != nil { // so that reading keeps no thread
		return nil, fmt.Errorf("%s is set by vring itself: %w", variable, err)
	}
	return &Server{
		Shares: i.Shares, Becoming: i.Becoming, conn: conn,
		duties: inherited(i.Duties, "duties"), requests: inherited(i.Requests, "requests"), states: inherited(i.States, "states"),
	}, nil
}

// inherited is a descriptor that programs which this process starts do not get.
func inherited(fd int, name string) *os.File {
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name)
}

// Broker tells the broker its duties, and returns the socket on which it is asked. It is called once.
func (s *Server) Broker(duties []byte) (*net.UnixConn, error) {
	if _, err := s.duties.Write(duties); err != nil {
		return nil, err
	}
	return s.conn, s.duties.Close()
}

// Release lets the broker end if it has no duties. The server calls it when all is open.
func (s *Server) Release() { _ = s.duties.Close() }

// Tell tells the service manager a state, by way of the supervisor.
func (s *Server) Tell(state servicemanager.State) {
	_, _ = io.WriteString(s.states, string(state)+"\n")
}

// Asked are the channels of what a server is asked for. Each holds one request: one that is asked for again before it is done
// comes once.
type Asked struct{ Status, Reload chan os.Signal }

// NewAsked makes the channels.
func NewAsked() Asked { return Asked{make(chan os.Signal, 1), make(chan os.Signal, 1)} }

// pass passes on a request.
func (a *Asked) pass(request byte) {
	to, as := a.Status, unix.SIGUSR1
	switch request {
	case requestStatus:
	case requestReload:
		to, as = a.Reload, unix.SIGHUP
	default:
		return
	}
	select {
	case to <- as:
	default: // one that was asked for already is to come
	}
}

// Listen passes on what the server is asked for, until it is asked to end. Then it calls end. It returns at once.
func (s *Server) Listen(asked Asked, end func()) {
	// Signals that are sent to all processes of a service reach the supervisor as well.
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1)
	go func() {
		defer end()
		for request := make([]byte, 1); ; {
			if n, err := s.requests.Read(request); n == 0 || err != nil {
				return
			}
			asked.pass(request[0])
		}
	}()
}
