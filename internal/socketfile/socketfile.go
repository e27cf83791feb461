package socketfile

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxPath is what fits in sun_path with its terminating zero (unix(7)).
const maxPath = 107

// CheckLength tells whether path is too long for a socket.
func CheckLength(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("socket path has %d bytes, unix sockets allow %d: %s", len(path), maxPath, path)
	}
	return nil
}

// Check tells, without changing anything, why nobody could listen on path. What Replace would replace is no reason.
func Check(path string) error {
	if err := CheckLength(path); err != nil {
		return err
	}
	if err := CheckDirectory(path); err != nil {
		return fmt.Errorf("socket path %s: %w", path, err)
	}
	_, err := isStale(path)
	return err
}

// CheckDirectory tells why this process can make no socket at path, whatever lies there.
func CheckDirectory(path string) error {
	dir := filepath.Dir(path)
	if scheme, rest, found := strings.Cut(path, ":"); found && (scheme == "unix" || scheme == "file") {
		return fmt.Errorf("a path has no %s: in front; write %s", scheme, strings.TrimPrefix(rest, "//"))
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, unix.ENOTDIR) || err == nil && !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("there is no directory %s", dir)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("this user may not enter %s; choose another directory", dir)
	case err != nil:
		return err
	}
	return mayMake(dir)
}

// mayMake tells why this process cannot make files in a directory.
func mayMake(dir string) error {
	switch err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err {
	case nil:
		return nil
	case unix.EROFS:
		return fmt.Errorf("%s is on a file system that cannot be written to; choose another directory", dir)
	case unix.EACCES:
		return fmt.Errorf("this user may not make files in %s; choose another directory", dir)
	default:
		return fmt.Errorf("%s: %w", dir, err)
	}
}

// clear removes a socket on which nobody listens. Anything else at path is an error.
func clear(path string) error {
	stale, err := isStale(path)
	if err != nil || !stale {
		return err
	}
	return os.Remove(path)
}

// isStale tells whether a socket on which nobody listens lies at path. Anything else there is an error.
func isStale(path string) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.Mode().Type() != os.ModeSocket {
		return false, fmt.Errorf("%s exists and is not a socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
	}
	// As many as it lets wait do so, or it is a socket of another kind.
	if err == nil || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EPROTOTYPE) {
		return false, fmt.Errorf("%s is in use by another process", path)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return false, fmt.Errorf("%s exists, and it cannot be told whether it is in use: %w; choose another path", path, err)
	}
	return true, nil
}

// File is a socket's file that this process made. Its zero value is none.
type File struct {
	path           string
	device, number uint64      // of the file system, and of the file in it; the latter is 0 for none
	left           func() bool // see Unless
}

// Numbered is the file of a path that has numbers; see Numbers.
func Numbered(path string, device, number uint64) File {
	return File{path: path, device: device, number: number}
}

// Path is where the file was made.
func (f File) Path() string { return f.path }

// Numbers tell the file from others, as long as it is there or somebody has it open: that of its file system, and its own.
func (f File) Numbers() (device, number uint64) { return f.device, f.number }

// Unless returns the file such that Remove leaves it where it is if left is true then: another process removes it. nil
// stands for never.
func (f File) Unless(left func() bool) File {
	f.left = left
	return f
}

// Made remembers the file that was just bound.
func Made(path string) (File, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return File{}, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return Numbered(path, uint64(st.Dev), st.Ino), nil
}

// Remove removes the file, unless another one has taken its place.
func (f File) Remove() error {
	if f.number == 0 || f.left != nil && f.left() {
		return nil
	}
	defer lock(f.path, usualPatience)()
	now, err := Made(f.path)
	if errors.Is(err, os.ErrNotExist) || err == nil && (now.device != f.device || now.number != f.number) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Remove(f.path)
}
