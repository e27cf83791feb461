package hostile

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// FUSE is a file system of this process that has one file, and that can fall silent (linux/fuse.h, protocol 7.31).
type FUSE struct {
	File   *os.File
	dev    int
	target string
	silent atomic.Bool
}

// fuseSize is the length of the file in bytes.
const fuseSize = 4 << 20

// MountFUSE mounts a file system below a directory, and opens its file. It needs root.
func MountFUSE(dir string) (*FUSE, error) {
	f := &FUSE{target: filepath.Join(dir, "fuse")}
	if err := os.WriteFile(f.target, nil, 0o600); err != nil {
		return nil, err
	}
	var err error
	if f.dev, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	// The root is the file. The server that root has started is another user's, whom FUSE would refuse by itself.
	options := fmt.Sprintf("fd=%d,rootmode=100600,user_id=0,group_id=0,allow_other", f.dev)
	if err := unix.Mount("fuse", f.target, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		_ = unix.Close(f.dev)
		return nil, err
	}
	go f.serve()
	if err := f.open(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// open opens the file. os.OpenFile would ask the kernel to watch it, which here is a request to this very process: it holds
// Go's poller until it is answered, and with two processors nobody may be left to answer.
func (f *FUSE) open() error {
	fd, err := unix.Open(f.target, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: f.target, Err: err}
	}
	f.File = os.NewFile(uintptr(fd), f.target)
	return nil
}

// FallSilent lets the file system answer nothing any more.
func (f *FUSE) FallSilent() { f.silent.Store(true) }

// Close unmounts. Whoever waits for an answer gets an error.
func (f *FUSE) Close() {
	_ = unix.Unmount(f.target, unix.MNT_DETACH|unix.MNT_FORCE)
	_ = unix.Close(f.dev)
	if f.File != nil {
		_ = f.File.Close()
	}
}

// Requests that are answered.
const (
	fuseForget  = 2
	fuseGetAttr = 3
	fuseOpen    = 14
	fuseStatFS  = 17
	fuseRelease = 18
	fuseFlush   = 25
	fuseInit    = 26
)

// serve answers until the file system is unmounted.
func (f *FUSE) serve() {
	const headerLen = 40
	buf := make([]byte, 1<<17)
	for {
		n, err := unix.Read(f.dev, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		opcode := binary.LittleEndian.Uint32(buf[4:])
		if n < headerLen || f.silent.Load() || opcode == fuseForget {
			continue
		}
		body, errno := answer(opcode)
		reply := make([]byte, 0, 16+len(body))
		reply = binary.LittleEndian.AppendUint32(reply, uint32(16+len(body)))
		reply = binary.LittleEndian.AppendUint32(reply, uint32(-int32(errno)))
		reply = append(append(reply, buf[8:16]...), body...) // the request's own number
		_, _ = unix.Write(f.dev, reply)
	}
}

// answer is what follows the header of a reply.
func answer(opcode uint32) (body []byte, errno unix.Errno) {
	words := func(n int, set map[int]uint32) []byte {
		b := make([]byte, 4*n)
		for i, v := range set {
			binary.LittleEndian.PutUint32(b[4*i:], v)
		}
		return b
	}
	switch opcode {
	case fuseInit:
		return words(16, map[int]uint32{0: 7, 1: 31, 5: 4096}), 0
	case fuseGetAttr: // 4 words of validity, then inode, size, ..., mode, links
		return words(26, map[int]uint32{4: 1, 6: fuseSize, 19: unix.S_IFREG | 0o600, 20: 1}), 0
	case fuseOpen:
		return words(4, nil), 0
	case fuseStatFS:
		return words(20, nil), 0
	case fuseRelease, fuseFlush:
		return nil, 0
	}
	return nil, unix.ENOSYS
}
