package dns

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

const (
	// DefaultFile is where the host keeps its resolvers.
	DefaultFile = "/etc/resolv.conf"
	// MaxFile bounds how many bytes of the file are looked at.
	MaxFile = 32 << 10
)

// ReadFile reads the first MaxFile bytes of a regular file. It does not wait for anything else that lies there.
func ReadFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return io.ReadAll(io.LimitReader(f, MaxFile))
}

// ReadOrEmpty is ReadFile, for which a file that cannot be read is an empty one.
func ReadOrEmpty(path string) ([]byte, error) {
	text, err := ReadFile(path)
	if err != nil {
		return nil, nil
	}
	return text, nil
}
