package bootroot

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is a directory that is open. Any goroutine may use it.
type Root struct{ fd int }

// Open opens a directory.
func Open(path string) (*Root, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return &Root{fd}, nil
}

// Close closes the directory.
func (r *Root) Close() error { return unix.Close(r.fd) }

// OpenFile opens a regular file for reading. The parts of its name have one slash between them. The error fs.ErrNotExist is that there is
// none, or one that leads through a link.
func (r *Root) OpenFile(name string) (fd int, err error) {
	at := r.fd
	for {
		part, rest, more := strings.Cut(name, "/")
		if part == "" || part == "." || part == ".." || strings.ContainsRune(part, 0) {
			err = fmt.Errorf("%q is no name of a file", part)
		} else if more {
			fd, err = unix.Openat(at, part, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		} else {
			fd, err = openRegular(at, part)
		}
		if at != r.fd {
			_ = unix.Close(at)
		}
		if err != nil {
			return -1, told(err)
		}
		if !more {
			return fd, nil
		}
		at, name = fd, rest
	}
}

// openRegular opens a file of a directory, which waits for nobody.
func openRegular(at int, part string) (fd int, err error) {
	fd, err = unix.Openat(at, part, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var stat unix.Stat_t
	if err = unix.Fstat(fd, &stat); err == nil && stat.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// told returns what a failure to open a file is told as.
func told(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENAMETOOLONG):
		return fs.ErrNotExist
	}
	return err
}
