package replacefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Place is where a file is that one process gives its content again and again, in a directory that it holds open. Nobody else writes it
// meanwhile: the file is locked.
type Place struct {
	dir  int
	path string
	name string // in dir
	held int    // the file that has the lock

	temporary int // is written at present; negative for none
}

// lockPatience is how long a file may be locked by another process: one that was killed ends its last write first.
const lockPatience = 5 * time.Second

// placeFlags are those of a file that is made. A sandbox may allow no others: see package sandbox.
const placeFlags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC

// ReadPlace returns the content of the file of a place that nobody writes at the moment, nil if there is none: most bytes at most. The file is
// regular, and this user's alone to write, so nobody else chooses what it says.
func ReadPlace(path string, most int64) ([]byte, error) {
	fd, err := openLocked(path, unix.LOCK_SH, lockPatience)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return readAll(fd, most)
}

// readAll reads a file and closes it.
func readAll(fd int, most int64) ([]byte, error) {
	f := os.NewFile(uintptr(fd), "kept")
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// OpenPlace opens the place of a file, and locks it until Close. A file that there is not is made, with the content first. isExpected is asked
// whether the content, of which it gets as many bytes as most, or nil without a file, is what the caller has read before; otherwise OpenPlace
// returns ErrChanged. Through a symbolic link, the place is that to which it leads.
func OpenPlace(path string, most int64, first []byte, isExpected func([]byte) bool) (*Place, error) {
	if behind, err := filepath.EvalSymlinks(path); err == nil {
		path = behind
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Dir(path), err)
	}
	p := &Place{dir: dir, path: path, name: filepath.Base(path), held: -1, temporary: -1}
	if err := p.hold(most, first, isExpected); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// hold locks the file, or makes it.
func (p *Place) hold(most int64, first []byte, isExpected func([]byte) bool) (err error) {
	p.held, err = openLocked(p.path, unix.LOCK_EX, lockPatience)
	if errors.Is(err, unix.ENOENT) {
		if !isExpected(nil) {
			return fmt.Errorf("%s: %w", p.path, ErrChanged)
		}
		return p.Write(first)
	}
	if err != nil {
		return err
	}
	fd, err := unix.FcntlInt(uintptr(p.held), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	text, err := readAll(fd, most)
	if err == nil && !isExpected(text) {
		err = fmt.Errorf("%s: %w", p.path, ErrChanged)
	}
	return err
}

// Directory is the descriptor of the directory, which is the only one that Write uses to find files.
func (p *Place) Directory() int { return p.dir }

// Path is that of the file, behind all links.
func (p *Place) Path() string { return p.path }

// Close lets another process have the place.
func (p *Place) Close() error {
	var errs []error
	for _, fd := range []int{p.temporary, p.held, p.dir} {
		if fd >= 0 {
			errs = append(errs, os.NewSyscallError("close", unix.Close(fd)))
		}
	}
	return errors.Join(errs...)
}

// Write gives the file another content. Whenever it is interrupted, the file has one content or the other, whole. It returns when the disk has
// the new one. After an error the file is unchanged, though if only the last step fails, which waits for the disk, the new content is in place.
func (p *Place) Write(text []byte) error {
	defer p.clean()
	for _, step := range p.steps(text) {
		if err := step(); err != nil {
			return fmt.Errorf("%s: %w", p.path, err)
		}
	}
	return nil
}

// steps are what is done, in order. It can stop behind each.
func (p *Place) steps(text []byte) []func() error {
	return []func() error{
		p.removeLeft, p.create, func() error { return writeAll(p.temporary, text) }, p.sync, p.lock, p.rename, p.syncDirectory,
	}
}

// temporaryName is that of the file that is written before it takes its place.
func (p *Place) temporaryName() string { return "." + p.name + ".new" }

// removeLeft removes what a write has left that was interrupted.
func (p *Place) removeLeft() error {
	err := unix.Unlinkat(p.dir, p.temporaryName(), 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return os.NewSyscallError("unlinkat", err)
}

// create makes a file that only its owner can read.
func (p *Place) create() (err error) {
	p.temporary, err = unix.Openat(p.dir, p.temporaryName(), placeFlags, 0o600)
	return os.NewSyscallError("openat", err)
}

func writeAll(fd int, text []byte) error {
	for len(text) > 0 {
		n, err := unix.Write(fd, text)
		if err != nil {
			return os.NewSyscallError("write", err)
		}
		text = text[n:]
	}
	return nil
}

func (p *Place) sync() error { return os.NewSyscallError("fsync", unix.Fsync(p.temporary)) }

// lock locks the file before others can find it.
func (p *Place) lock() error {
	return os.NewSyscallError("flock", unix.Flock(p.temporary, unix.LOCK_EX|unix.LOCK_NB))
}

func (p *Place) rename() error {
	if err := unix.Renameat(p.dir, p.temporaryName(), p.dir, p.name); err != nil {
		return os.NewSyscallError("renameat", err)
	}
	before := p.held
	p.held, p.temporary = p.temporary, -1
	if before < 0 {
		return nil
	}
	return os.NewSyscallError("close", unix.Close(before))
}

// syncDirectory waits until the disk has the new name.
func (p *Place) syncDirectory() error { return os.NewSyscallError("fsync", unix.Fsync(p.dir)) }

// clean removes what was not renamed.
func (p *Place) clean() {
	if p.temporary < 0 {
		return
	}
	_, _ = unix.Close(p.temporary), p.removeLeft()
	p.temporary = -1
}

// openLocked opens a file and locks it. It waits for another process's lock, for a limited time.
func openLocked(path string, how int, patience time.Duration) (int, error) {
	const pause = 10 * time.Millisecond
	for until := time.Now().Add(patience); ; time.Sleep(pause) {
		fd, err := openOwn(path)
		if err != nil {
			return -1, err
		}
		err = unix.Flock(fd, how|unix.LOCK_NB)
		if err == nil && isAt(fd, path) {
			return fd, nil
		}
		_ = unix.Close(fd)
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			return -1, fmt.Errorf("%s: %w", path, os.NewSyscallError("flock", err))
		}
		if time.Now().After(until) {
			return -1, fmt.Errorf("%s is in use by another process; give each vring its own", path)
		}
	}
}

// openOwn opens a regular file that nobody else can write.
func openOwn(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", path, err)
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	switch {
	case err != nil:
		err = os.NewSyscallError("fstat", err)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = errors.New("it is not a regular file")
	case st.Uid != uint32(os.Geteuid()):
		err = errors.New("it belongs to another user")
	case st.Mode&0o022 != 0:
		err = errors.New("others than its owner may write it")
	default:
		return fd, nil
	}
	return -1, errors.Join(fmt.Errorf("%s: %w", path, err), os.NewSyscallError("close", unix.Close(fd)))
}

// isAt reports whether an open file is still the one at path.
func isAt(fd int, path string) bool {
	var open, there unix.Stat_t
	return unix.Fstat(fd, &open) == nil && unix.Stat(path, &there) == nil && open.Dev == there.Dev && open.Ino == there.Ino
}
