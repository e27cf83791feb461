package sandbox

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// User is whom a process becomes that root has started.
type User struct {
	Name     string
	UID, GID int
}

func (u *User) String() string { return fmt.Sprintf("%s, user %d and group %d", u.Name, u.UID, u.GID) }

// becomeUser makes this process that of another user if cfg says so, and tells how that went. Files that are open stay open. A process
// that stays root is no less confined by the other walls.
func becomeUser(cfg *Config) State {
	w := Wall{Name: wallUser}
	switch {
	case cfg.StaysRoot != "":
		w.Lacks = cfg.StaysRoot
	case cfg.User == nil:
		return nil
	default:
		if err := cfg.User.become(); err != nil {
			w.Lacks = err.Error()
		} else {
			w.Keeps = fmt.Sprintf("what is root's (it runs as %v)", cfg.User)
		}
	}
	return State{w}
}

// wallUser is the name of the wall that a user of its own is.
const wallUser = "user"

// LeftRoot reports whether the process has become another user's, and if not, why, if it was to.
func (s State) LeftRoot() (left bool, why string) {
	for _, w := range s {
		if w.Name == wallUser {
			return w.Lacks == "", w.Lacks
		}
	}
	return false, ""
}

// become gives this process the user and its group, and no others. The kernel forgets then that the process ends with its parent
// (PR_SET_PDEATHSIG(2const)), so that is asked for again, on all threads: the kernel remembers it for each.
func (u *User) become() error {
	err := u.change()
	_, again := cap.Prctlw(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	return errors.Join(err, os.NewSyscallError("prctl", again))
}

// change is become, without what the kernel forgets. After an error the user is the one of before.
func (u *User) change() error {
	if u.UID <= 0 || u.GID <= 0 {
		return fmt.Errorf("%v is root, or has its group", u)
	}
	if err := syscall.Setgroups(nil); err != nil {
		return os.NewSyscallError("setgroups", err)
	}
	if err := syscall.Setresgid(u.GID, u.GID, u.GID); err != nil {
		return os.NewSyscallError("setresgid", err)
	}
	// Of other users than root the kernel counts the threads, of all programs of theirs together. This one has had no bound, and may not
	// start others.
	_ = unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
	return os.NewSyscallError("setresuid", syscall.Setresuid(u.UID, u.UID, u.UID))
}
