package integration

import (
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// relay stands between a front end and vring, passes messages and their file descriptors on, and can cut the connection:
// both then see the other one hang up, and live on.
type relay struct {
	t       *testing.T
	backEnd string
	mu      sync.Mutex
	open    []net.Conn
}

// startRelay starts a relay in front of vring, and returns where front ends find it.
func startRelay(t *testing.T, backEnd string) (r *relay, socket string) {
	socket = filepath.Join(shortDir(t), "relay.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	require.NoError(t, err)
	r = &relay{t: t, backEnd: backEnd}
	t.Cleanup(func() {
		_ = l.Close()
		r.cut()
	})
	go func() {
		for {
			front, err := l.AcceptUnix()
			if err != nil {
				return
			}
			r.serve(front)
		}
	}()
	return r, socket
}

// serve connects a front end to vring.
func (r *relay) serve(front *net.UnixConn) {
	back, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: r.backEnd, Net: "unix"})
	if err != nil {
		_ = front.Close()
		return
	}
	r.mu.Lock()
	r.open = []net.Conn{front, back}
	r.mu.Unlock()
	for _, way := range [][2]*net.UnixConn{{front, back}, {back, front}} {
		go func() {
			for passMessage(way[1], way[0]) == nil {
			}
			_ = front.Close()
			_ = back.Close()
		}()
	}
}

// cut ends the connection that there is.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.open {
		_ = c.Close()
	}
	r.open = nil
}

// passMessage passes one vhost-user message on, with the descriptors that came with its header.
func passMessage(to, from *net.UnixConn) error {
	const headerLen, sizeOffset, mostDescriptors = 12, 8, 64
	message, control := make([]byte, headerLen), make([]byte, unix.CmsgSpace(4*mostDescriptors))
	n, controlLen, _, _, err := from.ReadMsgUnix(message, control)
	if err != nil {
		return err
	}
	control = control[:controlLen]
	defer closeDescriptors(control)
	if n == 0 {
		return io.EOF
	}
	if _, err := io.ReadFull(from, message[n:]); err != nil {
		return err
	}
	payload := make([]byte, binary.NativeEndian.Uint32(message[sizeOffset:]))
	if _, err := io.ReadFull(from, payload); err != nil {
		return err
	}
	_, _, err = to.WriteMsgUnix(append(message, payload...), control, nil)
	return err
}

// closeDescriptors closes those that came in a control message.
func closeDescriptors(control []byte) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return
	}
	for i := range messages {
		descriptors, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range descriptors {
			_ = unix.Close(fd)
		}
	}
}
