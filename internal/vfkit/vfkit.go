package vfkit

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Greeting is what vfkit sends first. It is no frame.
const Greeting = "VFKT"

// minFrame is the length of an Ethernet header in bytes: a front end that does not greet begins with a frame.
const minFrame = 14

// ErrNobody is that no datagram waits.
var ErrNobody = errors.New("nobody has sent anything")

// Meet connects a datagram socket of unix to the sender of the datagram that waits, which is received by whoever receives next. Datagrams of
// others are refused by the kernel from then on. After an error other than [ErrNobody] the datagram was dropped, and the socket is as it was.
func Meet(fd int) error {
	var first [len(Greeting) + 1]byte
	n, from, err := unix.Recvfrom(fd, first[:], unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT)
	if err == unix.EAGAIN {
		return ErrNobody
	}
	if err != nil {
		return fmt.Errorf("see who has sent: %w", err)
	}
	if err := connect(fd, from, first[:], n); err != nil {
		_, _, _ = unix.Recvfrom(fd, nil, unix.MSG_DONTWAIT)
		return err
	}
	return nil
}

// connect connects fd to the sender of a datagram of n bytes.
func connect(fd int, from unix.Sockaddr, first []byte, n int) error {
	name := ""
	if of, ok := from.(*unix.SockaddrUnix); ok {
		name = of.Name
	}
	greets := n == len(Greeting) && string(first[:n]) == Greeting
	switch {
	case name == "":
		return errors.New("a front end has sent from a socket without a name, so nothing can be sent to it; it has to bind its socket")
	case !strings.HasPrefix(name, "@") && !filepath.IsAbs(name):
		return fmt.Errorf("a front end has sent from %q, and only a path from the root on can be found; it has to bind its socket to one", name)
	case !greets && n < minFrame:
		return fmt.Errorf("a front end at %q has begun with %d bytes, which are neither %s nor a frame", name, n, Greeting)
	}
	if err := unix.Connect(fd, from); err != nil {
		return fmt.Errorf("connect to the front end at %q: %w", name, err)
	}
	return nil
}
