package socketfile

import (
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// usualPatience is how long a lock is waited for by who has time.
const usualPatience = 5 * time.Second

// lock keeps others who use this package from replacing or removing files in the directory of path until release is
// called, so that nobody acts on what he saw before another one acted. A lock that somebody else holds for too long, or a
// directory that may not be read, is no reason to do nothing: what happens at the same moment can then still fail.
func lock(path string, patience time.Duration) (release func()) {
	const pause = 2 * time.Millisecond
	fd, err := unix.Open(filepath.Dir(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil || time.Now().After(deadline) {
			return func() { _ = unix.Close(fd) } // which gives the lock back
		}
	}
}
