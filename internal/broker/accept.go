package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/vringnet/vring/internal/socketfile"
)

const (
	// MaxControl is how many connections to the control socket are open at once, at most.
	MaxControl = 64
	// acceptRate is how many connections are accepted in a second, after acceptBurst at once. Others wait to be accepted.
	acceptRate, acceptBurst = 200, 100
	// maxRefused is how many refused clients are waited for at once, each for refusedPatience: that they have read why.
	maxRefused, refusedPatience = 16, time.Second
)

// controlListener is the control socket. It accepts connections of the user who runs this process, and of root. Others are told
// that they may not connect, and all are if there are too many.
type controlListener struct {
	socket  *net.UnixListener
	user    uint32 // who may connect, beside root
	pace    *rate.Limiter
	open    chan struct{} // has an element for each connection that was accepted and not released
	refused chan struct{} // has an element for each that is being refused
	ctx     context.Context
	cancel  context.CancelFunc
	close   func() error // ends accept; once
}

// listenControl makes the control socket and its file, which is the caller's to remove, and which its owner alone may connect to. A file that
// a dead process has left is replaced.
func listenControl(path string) (*controlListener, socketfile.File, error) {
	const backlog = 128
	fd, file, err := socketfile.Replace(path, socketfile.OwnerOnly(), backlog)
	if err != nil {
		return nil, file, err
	}
	f := os.NewFile(uintptr(fd), "control")
	defer f.Close() // package net works on a duplicate
	some, err := net.FileListener(f)
	if err != nil {
		return nil, socketfile.File{}, errors.Join(err, file.Remove())
	}
	l := &controlListener{
		socket: some.(*net.UnixListener), user: uint32(os.Geteuid()),
		pace: rate.NewLimiter(acceptRate, acceptBurst), open: make(chan struct{}, MaxControl), refused: make(chan struct{}, maxRefused),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.close = sync.OnceValue(l.end)
	return l, file, nil
}

// accept returns the next connection of somebody who may control this process. It is open until release is called once for it. An
// error is that the listener was closed.
func (l *controlListener) accept() (*net.UnixConn, error) {
	const pause = 100 * time.Millisecond
	for {
		if err := l.pace.Wait(l.ctx); err != nil {
			return nil, net.ErrClosed
		}
		c, err := l.socket.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil, err
		case err != nil: // such as too many open files, which passes
			time.Sleep(pause)
		case l.admit(c):
			return c, nil
		}
	}
}

// admit reports whether a connection is one of those that are open. If not, it is refused.
func (l *controlListener) admit(c *net.UnixConn) bool {
	uid, err := uidOf(c)
	switch {
	case err != nil:
		l.refuse(c, http.StatusForbidden, fmt.Sprintf("it cannot be told who connects: %v", err))
		return false
	case uid != 0 && uid != l.user:
		l.refuse(c, http.StatusForbidden, fmt.Sprintf("user %d may not control this vring; use it as user %d, who runs it, or as root", uid, l.user))
		return false
	}
	select {
	case l.open <- struct{}{}:
		return true
	default:
		l.refuse(c, http.StatusServiceUnavailable, fmt.Sprintf("%d connections are open, and no more are accepted; close some, or try again", MaxControl))
		return false
	}
}

// release counts the end of a connection.
func (l *controlListener) release() {
	select {
	case <-l.open:
	default: // the other process, which tells of the ends, tells of too many
	}
}

// refuse tells a client why it is not served, and closes its connection when it has read that, or soon after.
func (l *controlListener) refuse(c *net.UnixConn, status int, why string) {
	_ = c.SetDeadline(time.Now().Add(refusedPatience))
	_, _ = io.WriteString(c, refusal(status, why)) // its buffer is empty, so this does not wait
	_ = c.CloseWrite()
	select {
	case l.refused <- struct{}{}:
	default:
		_ = c.Close()
		return
	}
	go func() {
		defer func() { <-l.refused }()
		_, _ = io.Copy(io.Discard, c) // a client whose request meets a closed socket may not read the answer
		_ = c.Close()
	}()
}

// refusal is an answer in HTTP, with the reason as the control API writes errors.
func refusal(status int, why string) string {
	body := fmt.Sprintf("{\"error\":%q}\n", why)
	return fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), len(body), body)
}

func (l *controlListener) end() error {
	l.cancel()
	return l.socket.Close()
}

// uidOf is the user whose process has connected.
func uidOf(c *net.UnixConn) (uid uint32, err error) {
	err = withDescriptor(c, func(fd int) error {
		peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err == nil {
			uid = peer.Uid
		}
		return os.NewSyscallError("getsockopt", err)
	})
	return uid, err
}
