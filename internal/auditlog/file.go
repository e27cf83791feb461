package auditlog

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// MaxSize is how many bytes a file has at most, and the one before it.
const MaxSize = 64 << 20

// Before is what the name of the file before has behind that of the file.
const Before = ".1"

// File is where lines go. It is for one goroutine.
type File struct {
	path   string // "-" for standard output
	fd     int
	before int   // the file before; negative for none
	size   int64 // of the file
	most   int64
	torn   bool // the last line has no end
}

// Stdout stands for standard output in place of a path.
const Stdout = "-"

// Open opens a file for lines that are added to it, and the one before; Stdout is standard output. Files that there are not are made, with
// the mode 0600. Those that there are must be regular, this user's, and nobody else's to write; links are not followed.
func Open(path string) (*File, error) { return open(path, MaxSize) }

func open(path string, most int64) (_ *File, err error) {
	if path == Stdout {
		return &File{path: path, fd: 1, before: -1}, nil
	}
	f := &File{path: path, fd: -1, before: -1, most: most}
	if f.fd, f.size, err = openRegular(path); err == nil {
		f.before, _, err = openRegular(path + Before)
	}
	if err == nil {
		err = f.look()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openRegular opens one file, and returns its size.
func openRegular(path string) (fd int, size int64, err error) {
	const flags = unix.O_RDWR | unix.O_APPEND | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err = unix.Open(path, flags, 0o600)
	if err == unix.ELOOP {
		return -1, 0, fmt.Errorf("%s: it is a symbolic link; name the file itself", path)
	}
	if err != nil {
		return -1, 0, fmt.Errorf("%s: %w", path, err)
	}
	var s unix.Stat_t
	err = unix.Fstat(fd, &s)
	const others = 0o022
	switch {
	case err != nil:
	case s.Mode&unix.S_IFMT != unix.S_IFREG:
		err = errors.New("it is no regular file")
	case int(s.Uid) != os.Geteuid():
		err = fmt.Errorf("it belongs to user %d", s.Uid)
	case s.Mode&others != 0:
		err = fmt.Errorf("others may write it (mode %04o); take that away by chmod go-w", s.Mode&0o7777)
	default:
		return fd, s.Size, nil
	}
	_ = unix.Close(fd)
	return -1, 0, fmt.Errorf("%s: %w", path, err)
}

// look finds out whether the file ends within a line: its writer was killed then.
func (f *File) look() error {
	if f.size == 0 {
		return nil
	}
	var last [1]byte
	if _, err := unix.Pread(f.fd, last[:], f.size-1); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	f.torn = last[0] != '\n'
	return nil
}

// Descriptors are the files whose size changes; none for standard output.
func (f *File) Descriptors() []int {
	if f.before < 0 {
		return nil
	}
	return []int{f.fd, f.before}
}

// Write adds whole lines. After an error none of them counts: the next ones begin a line of their own.
func (f *File) Write(lines []byte) error {
	if f.torn {
		lines = append([]byte{'\n'}, lines...)
	}
	if f.before >= 0 && f.size+int64(len(lines)) > f.most && f.size > 0 {
		if err := f.beginAnew(); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	n, err := writeAll(f.fd, lines)
	f.size += int64(n)
	if n > 0 {
		f.torn = lines[n-1] != '\n'
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}

// beginAnew copies the file to the one before it, and empties it. If that is interrupted, what is in the file stays there.
func (f *File) beginAnew() error {
	if err := unix.Ftruncate(f.before, 0); err != nil {
		return os.NewSyscallError("ftruncate", err)
	}
	piece := make([]byte, 256<<10)
	for at := int64(0); at < f.size; {
		n, err := unix.Pread(f.fd, piece, at)
		if err != nil {
			return os.NewSyscallError("pread", err)
		}
		if n == 0 { // somebody else has made it shorter
			break
		}
		if _, err := writeAll(f.before, piece[:n]); err != nil {
			return err
		}
		at += int64(n)
	}
	if err := unix.Ftruncate(f.fd, 0); err != nil {
		return os.NewSyscallError("ftruncate", err)
	}
	f.size, f.torn = 0, false
	return nil
}

// writeAll writes text, and returns how much of it was written.
func writeAll(fd int, text []byte) (n int, err error) {
	for n < len(text) {
		more, err := unix.Write(fd, text[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, os.NewSyscallError("write", err)
		}
		n += more
	}
	return n, nil
}

// Close closes the files. Standard output stays open.
func (f *File) Close() error {
	var errs []error
	for _, fd := range []int{f.fd, f.before} {
		if fd > 2 {
			errs = append(errs, os.NewSyscallError("close", unix.Close(fd)))
		}
	}
	return errors.Join(errs...)
}
