package auditlog

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/logplace"
)

const (
	// MaxSize is how many bytes a file has at most, and the one before it.
	MaxSize = logplace.MaxSize
	// Before is what the name of the file before has behind that of the file.
	Before = logplace.Before
	// retryAfter is when it is tried again to begin a file anew.
	retryAfter = time.Second
)

// Stdout stands for standard output in place of a path.
const Stdout = "-"

// Opener opens files. Descriptors are the caller's.
type Opener interface {
	// OpenAudit opens the file at path for lines that are added to it.
	OpenAudit(path string) (fd int, err error)
	// NextAudit opens an empty file in the place of that at path, which becomes the one before.
	NextAudit(path string) (fd int, err error)
}

// File is where lines go. It is for one goroutine.
type File struct {
	path   string // "-" for standard output
	fd     int
	opener Opener
	size   int64 // of the file
	most   int64
	torn   bool // the last line has no end

	now     func() time.Time
	noRetry time.Time // until then it is not begun anew
	failed  error     // why it could not be
}

// Open opens a file for lines that are added to it, by an opener, which is asked again when it is full. Stdout is standard output.
func Open(path string, by Opener) (*File, error) { return open(path, by, MaxSize) }

func open(path string, by Opener, most int64) (*File, error) {
	f := &File{path: path, fd: -1, opener: by, most: most, now: time.Now}
	if path == Stdout {
		f.fd = 1
		return f, nil
	}
	fd, err := by.OpenAudit(path)
	if err != nil {
		return nil, err
	}
	if err := f.adopt(fd); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// adopt goes on in another file, which is open as fd.
func (f *File) adopt(fd int) error {
	before := f.fd
	f.fd = fd
	if before > 2 {
		_ = unix.Close(before) // what was written to it is in it
	}
	return f.look()
}

// Reopen goes on in the file that is at the path now, which need not be the one before. After an error it goes on in that one.
func (f *File) Reopen() error {
	if f.path == Stdout {
		return nil
	}
	fd, err := f.opener.OpenAudit(f.path)
	if err != nil {
		return err
	}
	f.failed = nil
	return f.adopt(fd)
}

// look finds out how long the file is, and whether it ends within a line: its writer was killed then.
func (f *File) look() error {
	var s unix.Stat_t
	if err := unix.Fstat(f.fd, &s); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	f.size, f.torn = s.Size, false
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

// Path is that of the file, or Stdout.
func (f *File) Path() string { return f.path }

// Size is how many bytes the file has, as far as is known here; 0 for standard output.
func (f *File) Size() int64 { return f.size }

// Write adds whole lines. After an error none of them counts: the next ones begin a line of their own.
func (f *File) Write(lines []byte) error {
	if err := f.makeRoom(int64(len(lines))); err != nil {
		return err
	}
	if f.torn {
		lines = append([]byte{'\n'}, lines...)
	}
	n, err := writeAll(f.fd, lines)
	if f.path != Stdout {
		f.size += int64(n)
	}
	if n > 0 {
		f.torn = lines[n-1] != '\n'
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}

// makeRoom begins the file anew if it is too full for n bytes more. If that fails, the file grows no further, and it is tried again later.
func (f *File) makeRoom(n int64) error {
	isFull := func() bool { return f.path != Stdout && f.size > 0 && f.size+n > f.most }
	if !isFull() {
		return nil
	}
	if f.failed != nil && f.now().Before(f.noRetry) {
		return f.failed
	}
	f.failed = f.look()                                    // somebody may have made it empty
	for tries := 2; f.failed == nil && isFull(); tries-- { // the first one may find another file at the path, which is full
		if tries == 0 {
			f.failed = fmt.Errorf("%s: it is full, and so is what is in its place", f.path)
			break
		}
		f.failed = f.next()
	}
	f.noRetry = f.now().Add(retryAfter)
	return f.failed
}

// next begins the file anew.
func (f *File) next() error {
	fd, err := f.opener.NextAudit(f.path)
	if err != nil {
		return err
	}
	return f.adopt(fd)
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

// Close closes the file. Standard output stays open.
func (f *File) Close() error {
	if f.fd <= 2 {
		return nil
	}
	return os.NewSyscallError("close", unix.Close(f.fd))
}
