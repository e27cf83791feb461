package logplace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// Before is what the name of the file before has behind that of the file.
	Before = ".1"
	// MaxSize is how many bytes a file has at most.
	MaxSize = 64 << 20
	// least is how many bytes a file has that is moved: nobody drives out what was logged by a few lines.
	least = MaxSize / 2
	// maxName is how long a name is at most, so that there is room for Before. The kernel has 255 (NAME_MAX).
	maxName = 200
)

// Place is the directory of a log. It is for one goroutine.
type Place struct {
	dir   int
	start string // path of the file that was named first
	uid   int    // of this process, whose the files are; a sandbox need not tell
	least int64  // bytes of a file that Next moves

	name     string // of the file that was opened last, "" for none
	dev, ino uint64 // of that file
}

// Open opens the directory of a file, which need not be there.
func Open(path string) (*Place, error) {
	dir, err := unix.Open(filepath.Dir(path), unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Dir(path), err)
	}
	return &Place{dir: dir, start: path, uid: os.Geteuid(), least: least}, nil
}

// Path is that of the file that was named first.
func (p *Place) Path() string { return p.start }

// Directory is the descriptor of the directory, which is the only one that Open and Next use to find files.
func (p *Place) Directory() int { return p.dir }

// Close lets the directory go. Files that were opened stay open.
func (p *Place) Close() error { return os.NewSyscallError("close", unix.Close(p.dir)) }

// Check returns why the file at path is none of the log whose first file is at start: it must be in the same directory, and its name begin and
// end as that one does, as audit-2 is like audit. So who may choose the name chooses no file that somebody else reads as his own.
func Check(start, path string) error {
	of, is := filepath.Base(start), filepath.Base(path)
	extension := filepath.Ext(of)
	stem := strings.TrimSuffix(of, extension)
	if stem == "" { // as in .audit
		stem, extension = of, ""
	}
	switch {
	case filepath.Dir(path) != filepath.Dir(start):
		return fmt.Errorf("%q is not in the directory of %s, the file of the start", path, start)
	case len(is) > maxName:
		return fmt.Errorf("%q has more than %d bytes", is, maxName)
	case is != of && (len(is) < len(of) || !strings.HasPrefix(is, stem) || !strings.HasSuffix(is, extension)):
		return fmt.Errorf("the name of %q must begin with %q and end with %q, as that of the start does", path, stem, extension)
	case strings.ContainsFunc(is, func(r rune) bool { return r < ' ' }):
		return fmt.Errorf("%q has control characters", is)
	}
	return nil
}

// Open opens a file for lines that are added to it. It is that of the start or like it, see Check; only the last part of the path counts. A
// file that there is not is made, with the mode 0600. One that there is must be regular, this user's, and nobody else's to write; links are not
// followed. The descriptor is the caller's.
func (p *Place) Open(path string) (fd int, err error) {
	if err := Check(p.start, filepath.Join(filepath.Dir(p.start), filepath.Base(path))); err != nil {
		return -1, err
	}
	return p.open(filepath.Base(path))
}

// flags are those with which files are opened. A sandbox may allow no others: see package sandbox.
const flags = unix.O_RDWR | unix.O_APPEND | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC

// open opens a file of the directory.
func (p *Place) open(name string) (fd int, err error) {
	fd, err = unix.Openat(p.dir, name, flags, 0o600)
	path := filepath.Join(filepath.Dir(p.start), name)
	if err == unix.ELOOP {
		return -1, fmt.Errorf("%s: it is a symbolic link; name the file itself", path)
	}
	if err != nil {
		return -1, fmt.Errorf("%s: %w", path, err)
	}
	var s unix.Stat_t
	if err = unix.Fstat(fd, &s); err == nil {
		err = p.wrong(&s)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("%s: %w", path, err)
	}
	p.name, p.dev, p.ino = name, uint64(s.Dev), s.Ino
	return fd, nil
}

// wrong returns why a file is not written.
func (p *Place) wrong(s *unix.Stat_t) error {
	const others = 0o022
	switch {
	case s.Mode&unix.S_IFMT != unix.S_IFREG:
		return errors.New("it is no regular file")
	case int(s.Uid) != p.uid:
		return fmt.Errorf("it belongs to user %d", s.Uid)
	case s.Mode&others != 0:
		return fmt.Errorf("others may write it (mode %04o); take that away by chmod go-w", s.Mode&0o7777)
	}
	return nil
}

// Next gives the file at path, which was opened last, the name of the file before, and opens an empty one in its place. If another file is there
// meanwhile, since somebody else has moved it, or if another one was opened last, it opens what is there. After an error the file stays as it was.
func (p *Place) Next(path string) (fd int, err error) {
	name, dev, ino := p.name, p.dev, p.ino
	fd, err = p.Open(path)
	if err != nil || p.name != name || p.dev != dev || p.ino != ino {
		return fd, err
	}
	err = p.move(fd)
	_ = unix.Close(fd)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", filepath.Join(filepath.Dir(p.start), name), err)
	}
	return p.open(name)
}

// move gives the file that is open as fd the name of the file before.
func (p *Place) move(fd int) error {
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if s.Size < p.least {
		return fmt.Errorf("it has %d bytes, and is not moved before it has %d", s.Size, p.least)
	}
	return os.NewSyscallError("renameat", unix.Renameat(p.dir, p.name, p.dir, p.name+Before))
}
