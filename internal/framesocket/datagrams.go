package framesocket

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/internal/vfkit"
)

// A datagram socket at a path is both: what front ends are met at, and what one of them is served by once it is connected to him who has sent
// first. There are no events of that, and none of his end but the first frame that he does not take.

// openDatagrams returns the socket at the path, and its file if that is the server's.
func (c *Config) openDatagrams() (fd int, file socketfile.File, err error) {
	if c.Listen != nil {
		fd, err = c.Listen(c.SocketPath)
		return fd, file, err
	}
	return socketfile.ReplaceDatagrams(c.SocketPath, socketfile.Access{Mode: c.SocketMode, Group: c.SocketGroup})
}

// meet connects the socket to the front end that has sent.
func (c *Config) meet(fd int) error {
	if c.Meet != nil {
		return c.Meet(c.SocketPath)
	}
	return vfkit.Meet(fd)
}

// serveDatagrams serves front ends that send to the socket, one after the other.
func (s *Server) serveDatagrams(ctx context.Context) (err error) {
	fd, file, err := s.cfg.openDatagrams()
	if err != nil {
		return err
	}
	file = file.Unless(s.cfg.KeepFile)
	defer func() {
		err = errors.Join(err, file.Remove())
		closeFD(fd)
	}()
	last := ""
	for waitDatagram(ctx, fd) {
		if err := s.cfg.meet(fd); err != nil {
			if err.Error() != last {
				last = err.Error()
				s.cfg.Log.Warn("a front end cannot be served", "path", s.cfg.SocketPath, "reason", err)
			}
			if !pause(ctx, refusedPause) {
				return nil
			}
			continue
		}
		last = ""
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("dup", err)
		}
		r := s.session(ctx, own)
		if s.cfg.OneOff || r.err != nil {
			return errors.Join(r.reason, r.err)
		}
		if !pause(ctx, s.pacer.Ended(r.began, time.Now())) {
			return nil
		}
	}
	return nil
}

// refusedPause is between datagrams of front ends that cannot be served.
const refusedPause = 10 * time.Millisecond

// waitDatagram waits until there is a datagram. It reports false if ctx has ended. Package net's poller, which would wake up with each frame,
// knows the socket no longer than that.
func waitDatagram(ctx context.Context, fd int) bool {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return pause(ctx, time.Second)
	}
	f := os.NewFile(uintptr(own), "front ends") // it does not block, so it can be waited for
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Now()) })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return pause(ctx, time.Second)
	}
	waited := raw.Read(func(own uintptr) (done bool) {
		_, _, err := unix.Recvfrom(int(own), nil, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	return waited == nil && ctx.Err() == nil
}
