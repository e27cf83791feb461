package fdconn

import "golang.org/x/sys/unix"

// FDs are the descriptors that came with one message; -1 where one was taken out.
type FDs []int

// Take passes descriptor i to the caller, who has to close it.
func (f FDs) Take(i int) int {
	fd := f[i]
	f[i] = -1
	return fd
}

// Close closes the descriptors that were not taken.
func (f FDs) Close() {
	for i, fd := range f {
		if fd >= 0 {
			unix.Close(fd)
			f[i] = -1
		}
	}
}
