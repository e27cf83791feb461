package dns

import "github.com/vringnet/vring/internal/regularfile"

const (
	// DefaultFile is where the host keeps its resolvers.
	DefaultFile = "/etc/resolv.conf"
	// MaxFile bounds how many bytes of the file are looked at.
	MaxFile = 32 << 10
)

// ReadFile reads the first MaxFile bytes of a regular file. It does not wait for anything else that lies there.
func ReadFile(path string) ([]byte, error) { return regularfile.Read(path, MaxFile) }

// ReadOrEmpty is ReadFile, for which a file that cannot be read is an empty one.
func ReadOrEmpty(path string) ([]byte, error) {
	text, err := ReadFile(path)
	if err != nil {
		return nil, nil
	}
	return text, nil
}
