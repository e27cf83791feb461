package supervisor

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/vringnet/vring/internal/sandbox"
)

// ownNamespaces are those that the server does not share with the host: of mounts, processes, System V objects and the host's
// name.
const ownNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// Isolation is how a process is started.
type Isolation struct {
	// OneUser is why the process may not be moved to a user namespace, in which it knows one user and one group only. "" is
	// that it may.
	OneUser string
	// Root is why a server that root starts stays root's. "" is that it becomes a user of its own.
	Root string
	// User is whom a server that root starts becomes, and no other: without the right to that, none is started. Nil is a user of vring's own.
	User *sandbox.User
}

// start starts the server, in namespaces of its own where that is possible, and tells it in its environment what it inherits. The
// network stays the host's. The kernel kills the process when the calling thread ends: the caller has locked it
// (runtime.LockOSThread).
func start(argv []string, files []*os.File, i inheritance, how Isolation) (*os.Process, error) {
	sys, shares := how.attributes()
	if shares == "" {
		p, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Env: i.environment(), Files: files, Sys: sys})
		if err == nil {
			return p, nil
		}
		shares = fmt.Sprintf("the system does not let it have any (%v)", errnoOf(err))
	}
	i.Shares = shares
	return os.StartProcess(argv[0], argv, &os.ProcAttr{Env: i.environment(), Files: files, Sys: endsWithParent()})
}

// endsWithParent are the attributes of a process without namespaces of its own. No signal of the terminal is for it.
func endsWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
}

// attributes returns those of a process with namespaces, or why it cannot have them.
//
// Who has no capability needs a user namespace for that. There the process has
// CAP_SYS_ADMIN, with which it may mount, and CAP_SETPCAP, with which it empties the bounding set. Who
// has capabilities, but not this one, keeps what he has: in a user namespace they are worth nothing towards the host.
func (i Isolation) attributes() (sys *syscall.SysProcAttr, shares string) {
	sys = endsWithParent()
	sys.Cloneflags = ownNamespaces
	have := cap.GetProc()
	none, _ := have.Cf(cap.NewSet())
	mounts, _ := have.GetFlag(cap.Effective, cap.SYS_ADMIN)
	switch {
	case withoutCause != "":
		return nil, withoutCause
	case mounts:
		return sys, ""
	case none != 0:
		return nil, "it has capabilities but not CAP_SYS_ADMIN, and a user namespace would take them away"
	case i.OneUser != "":
		return nil, i.OneUser
	}
	sys.Cloneflags |= unix.CLONE_NEWUSER
	sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
	sys.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	sys.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP}
	return sys, ""
}

// errnoOf is the error of the system call that failed.
func errnoOf(err error) error {
	if errno := unix.Errno(0); errors.As(err, &errno) {
		return errno
	}
	return err
}
