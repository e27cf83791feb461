package servicemanager

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// State is how the service is, as the manager reads it.
type State string

// States of the service.
const (
	Ready     State = "READY=1"
	Stopping  State = "STOPPING=1"
	Reloading State = "RELOADING=1" // until Ready comes again
)

// SocketVariable names the manager's socket in the environment.
const SocketVariable = "NOTIFY_SOCKET"

// Manager is told how the service is. The zero value tells nobody.
type Manager struct {
	conn *net.UnixConn
	fd   int
}

// Connect connects to the service manager, if there is one. Without one it returns the zero value.
func Connect() (Manager, error) {
	name := os.Getenv(SocketVariable)
	if name == "" {
		return Manager{}, nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return Manager{}, fmt.Errorf("%s %s: %w", SocketVariable, name, err)
	}
	m := Manager{conn: conn}
	var raw syscall.RawConn
	if raw, err = conn.SyscallConn(); err == nil {
		err = raw.Control(func(fd uintptr) { m.fd = int(fd) })
	}
	return m, err
}

// Tell tells a state. A manager that has gone does not mind.
func (m Manager) Tell(s State) {
	if m.conn != nil {
		_, _ = m.conn.Write([]byte(s.message()))
	}
}

// message is what the manager is sent. With Reloading it wants to know since when (sd_notify(3)).
func (s State) message() string {
	var now unix.Timespec
	if s != Reloading || unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return string(s)
	}
	return fmt.Sprintf("%s\nMONOTONIC_USEC=%d", s, now.Nano()/1000)
}

// FD returns the descriptor of the socket, which stays the manager's; 0 is that there is no manager.
func (m Manager) FD() int { return m.fd }
