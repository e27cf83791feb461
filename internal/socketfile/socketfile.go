package socketfile

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
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
	if dir := filepath.Dir(path); !isDirectory(dir) {
		return fmt.Errorf("socket path %s: there is no directory %s", path, dir)
	}
	_, err := isStale(path)
	return err
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
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
	if err == nil || errors.Is(err, unix.EAGAIN) { // as many as it lets wait do so
		return false, fmt.Errorf("%s is in use by another process", path)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return false, fmt.Errorf("%s exists, and it cannot be told whether it is in use: %w", path, err)
	}
	return true, nil
}

// File is a socket's file that this process made. Its zero value is none.
type File struct {
	path string
	info os.FileInfo
}

// Made remembers the file that was just bound.
func Made(path string) (File, error) {
	info, err := os.Lstat(path)
	return File{path, info}, err
}

// Remove removes the file, unless another one has taken its place.
func (f File) Remove() error {
	if f.info == nil {
		return nil
	}
	defer lock(f.path)()
	info, err := os.Lstat(f.path)
	if errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(info, f.info) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Remove(f.path)
}
