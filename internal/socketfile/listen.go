package socketfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Access tells who may connect to a socket: whoever may write to its file (unix(7)).
type Access struct {
	Mode  fs.FileMode // permission bits
	Group int         // the file's group, 0 for the process's own
}

// OwnerOnly lets the process's own user connect, and root.
func OwnerOnly() Access { return Access{Mode: 0o600} }

// Replace is Listen at a path where the socket of a process that is gone may lie, and remembers the file. Of two who do so
// at once, one has the path.
func Replace(path string, access Access, backlog int) (fd int, file File, err error) {
	return replace(path, access, backlog, usualPatience, unix.SOCK_STREAM)
}

// ReplacePackets is Replace for a socket of packets (SOCK_SEQPACKET).
func ReplacePackets(path string, access Access, backlog int) (fd int, file File, err error) {
	return replace(path, access, backlog, usualPatience, unix.SOCK_SEQPACKET)
}

// ReplaceDatagrams is Replace for a socket of datagrams (SOCK_DGRAM), on which nobody can listen: it is bound.
func ReplaceDatagrams(path string, access Access) (fd int, file File, err error) {
	return replace(path, access, 0, usualPatience, unix.SOCK_DGRAM)
}

// ReplaceAtOnce is Replace for who has no time to wait for another process that does so in the same directory. What both do at the
// same moment can then fail.
func ReplaceAtOnce(path string, access Access, backlog int) (fd int, file File, err error) {
	return replace(path, access, backlog, 0, unix.SOCK_STREAM)
}

func replace(path string, access Access, backlog int, patience time.Duration, kind int) (fd int, file File, err error) {
	defer lock(path, patience)()
	if err := clear(path); err != nil {
		return -1, File{}, err
	}
	fd, err = listenOn(path, access, backlog, kind)
	if err != nil {
		return -1, File{}, fmt.Errorf("listen on %s: %w", path, err)
	}
	file, err = Made(path)
	if err != nil {
		return -1, File{}, errors.Join(err, unix.Close(fd))
	}
	return fd, file, nil
}

// Listen makes a stream socket at path, where nothing may lie, and listens on it. The descriptor is the caller's; it is
// non-blocking and close-on-exec. The file has no more rights than access says at any time, whatever the umask.
func Listen(path string, access Access, backlog int) (fd int, err error) {
	return listenOn(path, access, backlog, unix.SOCK_STREAM)
}

// ListenPackets is Listen for a socket of packets (SOCK_SEQPACKET).
func ListenPackets(path string, access Access, backlog int) (fd int, err error) {
	return listenOn(path, access, backlog, unix.SOCK_SEQPACKET)
}

// listenOn is Listen for a socket of another kind.
func listenOn(path string, access Access, backlog, kind int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := bindAndListen(fd, path, access, backlog, kind); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func bindAndListen(fd int, path string, access Access, backlog, kind int) error {
	if err := bind(fd, path, access); err != nil {
		return err
	}
	err := access.apply(path)
	if err == nil && kind != unix.SOCK_DGRAM {
		err = os.NewSyscallError("listen", unix.Listen(fd, backlog))
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// bind makes the file. It gets the mode of the socket, less the umask, and the process's group: if it is to have another
// one, that group's rights come later.
func bind(fd int, path string, access Access) error {
	mode := access.Mode
	if access.Group != 0 {
		mode &^= 0o070
	}
	if err := unix.Fchmod(fd, uint32(mode)); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
}

// apply gives the file at path, which was just bound, its group and mode. It works on what lies there now, by a
// descriptor, so that no other file gets them if somebody changes the path meanwhile.
func (a Access) apply(path string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errors.New("the socket was replaced by something else")
	}
	if a.Group != 0 && int(st.Gid) != a.Group {
		if err := unix.Fchownat(fd, "", -1, a.Group, unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("give the socket to group %d: %w", a.Group, err)
		}
	}
	if fs.FileMode(st.Mode).Perm() == a.Mode {
		return nil
	}
	if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), uint32(a.Mode)); err != nil {
		return fmt.Errorf("set mode %#o: %w", uint32(a.Mode), err)
	}
	return nil
}
