package labrun

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"syscall"

	"golang.org/x/sys/unix"
)

// Place is the directory of a lab.
type Place struct{ Path string }

// prefix begins the names of directories of labs.
const prefix = "vring-lab-"

// Pattern matches the control sockets of all labs in a directory, as filepath.Glob reads it.
const Pattern = prefix + "*/*"

// names are of letters, digits and a few marks, and short, so that there is room for the name of a socket.
var names = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$`)

// PlaceOf returns the place of a lab with a name, in a directory for files of this user.
func PlaceOf(runtime, name string) (Place, error) {
	if !names.MatchString(name) {
		return Place{}, fmt.Errorf("a lab cannot be called %q: want 40 letters, digits, points and dashes at most", name)
	}
	return Place{filepath.Join(runtime, prefix+name)}, nil
}

// Files of a place.
func (p Place) socket() string { return filepath.Join(p.Path, "keeper.sock") }
func (p Place) config() string { return filepath.Join(p.Path, "vring.yaml") }
func (p Place) logs() string   { return filepath.Join(p.Path, "log") }

// Log is the file to which what a program prints is written.
func (p Place) Log(name string) string { return filepath.Join(p.logs(), name+".log") }

// lockName is the file of a place that its keeper has locked. The directory itself is locked by whoever makes a socket in it.
const lockName = "lock"

// LockFile is the path of that file.
func (p Place) LockFile() string { return filepath.Join(p.Path, lockName) }

// Held is a place that belongs to this process, and to those that it passes File to.
type Held struct {
	Place
	File *os.File // that is locked
}

// ErrKept is that the place belongs to another process: a lab is up, or is being taken down.
var ErrKept = errors.New("the lab has a keeper")

// errMoved is that a directory was removed while it was opened.
var errMoved = errors.New("the directory was removed meanwhile")

// Take takes a place, which is made if it is not there, and empties it. The error is ErrKept if it belongs to somebody else.
func (p Place) Take() (*Held, error) {
	const attempts = 100 // each time somebody else has removed it in between
	for range attempts {
		h, err := p.take()
		if !errors.Is(err, errMoved) {
			return h, err
		}
	}
	return nil, errMoved
}

func (p Place) take() (*Held, error) {
	if err := os.Mkdir(p.Path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := p.isOwn(); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(p.LockFile(), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errMoved
	}
	if err != nil {
		return nil, err
	}
	h := &Held{p, file}
	if err := h.lock(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if err := h.empty(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return h, nil
}

// isOwn returns an error if the directory is not this user's alone.
func (p Place) isOwn() error {
	info, err := os.Lstat(p.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return errMoved
	}
	if err != nil {
		return err
	}
	if owner := int(info.Sys().(*syscall.Stat_t).Uid); !info.IsDir() || owner != os.Geteuid() || info.Mode().Perm() != 0o700 {
		return fmt.Errorf("%s is %v of user %d: want a directory of this user's own, with 0700; remove it", p.Path, info.Mode(), owner)
	}
	return nil
}

// lock locks the file.
func (h *Held) lock() error {
	if err := unix.Flock(int(h.File.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return ErrKept
		}
		return os.NewSyscallError("flock", err)
	}
	locked, err := h.File.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Lstat(h.File.Name()); err != nil || !os.SameFile(locked, now) {
		return errMoved
	}
	return nil
}

// empty removes what is in the place beside the file that is locked, such as what a keeper has left that was killed.
func (h *Held) empty() error {
	entries, err := os.ReadDir(h.Path)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if e.Name() != lockName {
			errs = append(errs, os.RemoveAll(filepath.Join(h.Path, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Listen makes the socket at which the keeper is asked.
func (h *Held) Listen() (*net.UnixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: h.socket(), Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it is the keeper's
	return l, nil
}

// Remove removes the place, and gives it up.
func (h *Held) Remove() error {
	err := errors.Join(h.empty(), os.Remove(h.File.Name()))
	_ = os.Remove(h.Path) // which stays if somebody else has taken it since
	return errors.Join(err, h.File.Close())
}
