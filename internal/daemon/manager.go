package daemon

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// serviceManager is told how the service is (sd_notify(3)). Its socket is connected before the sandbox is entered. The zero
// value tells nobody.
type serviceManager struct {
	conn *net.UnixConn
	fd   int // the socket's descriptor, 0 for none
}

// States of the service.
const (
	stateReady    = "READY=1"
	stateStopping = "STOPPING=1"
)

// connectManager connects to the service manager, if there is one.
func connectManager() (serviceManager, error) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return serviceManager{}, nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return serviceManager{}, fmt.Errorf("NOTIFY_SOCKET %s: %w", name, err)
	}
	m := serviceManager{conn: conn}
	var raw syscall.RawConn
	if raw, err = conn.SyscallConn(); err == nil {
		err = raw.Control(func(fd uintptr) { m.fd = int(fd) })
	}
	return m, err
}

// tell tells a state. A manager that has gone does not mind.
func (m *serviceManager) tell(state string) {
	if m.conn != nil {
		_, _ = m.conn.Write([]byte(state))
	}
}
