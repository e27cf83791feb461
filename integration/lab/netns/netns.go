package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// commandLimit bounds a command that Run runs.
const commandLimit = 30 * time.Second

// Namespace is a network namespace.
type Namespace struct{ file *os.File }

// New makes a namespace in which only the loopback is up. Addresses of IPv6 can be used at once: nobody is asked first
// whether he has them too.
func New() (*Namespace, error) {
	n := &Namespace{}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		n.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	_, err = n.Run("ip link set lo up")
	if err := errors.Join(err, n.Sysctl("net.ipv6.conf.default.accept_dad", "0")); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Close lets go of the namespace. It is gone, with all of its interfaces, once nothing runs in it and no socket of it is
// open.
func (n *Namespace) Close() error { return n.file.Close() }

// Path names the namespace for other programs: "ip link set NAME netns PATH" moves an interface into it.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// Enter moves the calling thread into the namespace. It is meant for process.Options.Thread: the thread cannot be used
// for anything else again.
func (n *Namespace) Enter() error {
	return os.NewSyscallError("setns", unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET))
}

// Do runs fn in the namespace, on a thread of its own. Sockets that fn makes, on its own goroutine, stay in the namespace
// wherever they are used.
func (n *Namespace) Do(fn func() error) error {
	return onThread(func() error {
		if err := n.Enter(); err != nil {
			return err
		}
		return fn()
	})
}

// Run runs a command line in the namespace, and returns what it prints. Arguments are separated by spaces and cannot
// contain any: nothing is quoted.
func (n *Namespace) Run(line string) (output string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	words := strings.Fields(line)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin") // often not on the PATH of ordinary users
	err = n.Do(func() error {
		out, err := cmd.CombinedOutput()
		output = string(out)
		return err
	})
	if err != nil {
		return output, fmt.Errorf("%s: %w: %s", line, err, output)
	}
	return output, nil
}

// Sysctl sets a setting of the namespace, such as "net.ipv4.ip_forward".
func (n *Namespace) Sysctl(name, value string) error {
	return n.Do(func() error {
		return os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0)
	})
}

// onThread runs fn on a thread that ends afterwards: what fn has changed of it touches nobody else.
func onThread(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		done <- fn()
	}()
	return <-done
}
