package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/vringnet/vring/internal/bootroot"
)

const (
	// bootBurst is how many boot files may be opened at once, and bootRate how many each second in the long run.
	bootBurst, bootRate = 256, 100
)

// bootRoots are directories with files that guests boot from.
type bootRoots struct {
	roots []*bootroot.Root
	pace  *rate.Limiter
}

// open opens the directories.
func (b *bootRoots) open(paths []string) error {
	b.pace = rate.NewLimiter(bootRate, bootBurst)
	for _, path := range paths {
		root, err := bootroot.Open(path)
		if err != nil {
			return fmt.Errorf("directory of boot files: %w", err)
		}
		b.roots = append(b.roots, root)
	}
	return nil
}

// pass opens a file and passes it on.
func (b *bootRoots) pass(to *net.UnixConn, root int, name string) error {
	if !b.pace.AllowN(time.Now(), 1) {
		return reply(to, nil, fmt.Errorf("more than %d boot files in a second; try again later", bootRate))
	}
	fd, err := b.roots[root].OpenFile(name)
	if err != nil {
		return reply(to, nil, err)
	}
	defer unix.Close(fd)
	return pass(to, fd)
}

// HasBootRoot reports whether the broker opens files beneath a directory.
func (c *Client) HasBootRoot(directory string) bool {
	return slices.Contains(c.duties.BootRoots, directory)
}

// OpenBootFile opens a file beneath a directory of Duties.BootRoots for reading. The error fs.ErrNotExist is that there is no such file.
func (c *Client) OpenBootFile(directory, name string) (fd int, err error) {
	i := slices.Index(c.duties.BootRoots, directory)
	if i < 0 {
		return -1, fmt.Errorf("%s is no directory of boot files", directory)
	}
	fd, err = descriptorIn(c.ask(request{Verb: verbBoot, Socket: i, Name: []byte(name)}))
	if trouble := new(answerError); errors.As(err, &trouble) && trouble.text == fs.ErrNotExist.Error() {
		return -1, fs.ErrNotExist
	}
	return fd, err
}
