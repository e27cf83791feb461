package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/internal/servicemanager"
)

// The processes of these tests are the test's own program, in three roles: its first argument. It is built again without cgo,
// which the race detector needs: with it there are no namespaces.
const (
	asSupervisor = "supervisor"
	asServer     = "server"
	asBroker     = "broker"
)

// program is the test's program, built without cgo.
var program string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case asSupervisor:
			os.Exit(supervise(os.Args[2:]))
		case asServer:
			os.Exit(serve(os.Args[2:]))
		case asBroker:
			os.Exit(undo())
		}
	}
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "vring")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "supervisor.test")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Printf("%s\n%v\n", out, err)
		return 1
	}
	if err := os.Chmod(dir, 0o755); err != nil { // for another user
		panic(err)
	}
	return m.Run()
}

// supervise is the supervisor: of a server that does what the arguments say. Variables take away what the system does for it.
func supervise(args []string) int {
	if err := weaken(); err != nil {
		fmt.Println(err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	manager, err := servicemanager.Connect()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	status, err := Run(ctx, Config{
		Server: append([]string{os.Args[0], asServer}, args...), Broker: []string{os.Args[0], asBroker},
		Isolation: Isolation{OneUser: os.Getenv("ONE_USER"), Root: os.Getenv("ROOT")}, Manager: manager, Reloads: true,
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return status
}

// weaken takes away system calls, and capabilities.
func weaken() error {
	if os.Getenv("ONE_CAPABILITY") != "" {
		one := cap.NewSet()
		if err := errors.Join(one.SetFlag(cap.Permitted, true, cap.NET_ADMIN), one.SetFlag(cap.Effective, true, cap.NET_ADMIN),
			one.SetProc()); err != nil {
			return err
		}
	}
	if name := os.Getenv("WITHOUT"); name != "" {
		value, err := cap.FromName(name)
		have := cap.GetProc()
		if err := errors.Join(err, have.SetFlag(cap.Permitted, false, value), have.SetFlag(cap.Effective, false, value), have.SetProc()); err != nil {
			return err
		}
	}
	calls := strings.Fields(os.Getenv("LACKS"))
	if len(calls) == 0 {
		return nil
	}
	return seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		Syscalls:      []seccomp.SyscallGroup{{Action: seccomp.ActionErrno | seccomp.Action(unix.EPERM), Names: calls}},
	}})
}

// serve is the server: it opens a file for the broker to remove, enters its sandbox, and does one thing.
func serve(args []string) int {
	action, argument := args[0], args[1]
	s, err := Inherit()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if file := os.Getenv("UNDO"); file != "" {
		if _, err := s.Broker([]byte(file)); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	s.Release()
	asked, ended := NewAsked(), make(chan struct{})
	s.Listen(asked, func() { close(ended) })
	walls, err := sandbox.Enter(sandbox.Config{
		EmptyRoot: s.Shares == "", Shares: s.Shares, User: s.User, StaysRoot: s.StaysRoot, Internet: true, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if action == "wait" {
		fmt.Printf("ready, in a sandbox: %v\n", walls)
		s.Tell(servicemanager.Ready)
		s.Tell("MAINPID=1")
		answer(s, asked, ended)
		s.Tell(servicemanager.Stopping)
		return 0
	}
	if err := actions()[action](s, argument); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("done")
	return 0
}

// answer does what the server is asked for, until it is to end.
func answer(s *Server, asked Asked, ended <-chan struct{}) {
	for {
		select {
		case <-asked.Status:
			fmt.Println("here is the status")
		case <-asked.Reload:
			s.Tell(servicemanager.Reloading)
			fmt.Println("read again")
			s.Tell(servicemanager.Ready)
		case <-ended:
			return
		}
	}
}

// actions are what a server tries that is in the hands of a guest.
func actions() map[string]func(s *Server, argument string) error {
	return map[string]func(*Server, string) error{
		"read":   func(_ *Server, path string) error { _, err := os.ReadFile(path); return err },
		"create": func(_ *Server, path string) error { _, err := os.Create(path); return err },
		"list": func(_ *Server, path string) error {
			entries, err := os.ReadDir(path)
			fmt.Println(len(entries), "entries")
			return err
		},
		"signal": func(_ *Server, pid string) error {
			number, err := strconv.Atoi(pid)
			if err != nil {
				return err
			}
			return unix.Kill(number, unix.SIGTERM)
		},
		"signal all": func(s *Server, _ string) error {
			if s.Shares != "" || os.Getpid() != 1 { // it would end the processes of this machine
				return errors.New("this process is not the first of a namespace")
			}
			return unix.Kill(-1, unix.SIGTERM)
		},
		"see parent":  func(*Server, string) error { fmt.Println("parent", os.Getppid()); return nil },
		"mount":       func(*Server, string) error { return unix.Mount("none", "/", "tmpfs", 0, "") },
		"unix socket": func(_ *Server, path string) error { _, err := net.Dial("unix", path); return err },
		"netlink socket": func(*Server, string) error {
			_, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
			return err
		},
		"bind":  func(*Server, string) error { _, err := net.Listen("tcp", "127.0.0.1:0"); return err },
		"panic": func(s *Server, _ string) error { s.Tell(servicemanager.Ready); panic("a fault in the server") },
		"overflow": func(s *Server, _ string) error {
			s.Tell(servicemanager.Ready)
			debug.SetMaxStack(1 << 20)
			return overflow(1)
		},
		"end as use": func(*Server, string) error { os.Exit(statusOfCrash); return nil },
	}
}

// overflow ends with its stack, long before a number of that size does, and the runtime ends the process then: no code of Go's can stop that.
func overflow(depth int64) error {
	if depth < 0 {
		return nil
	}
	if err := overflow(depth + 1); err != nil {
		return fmt.Errorf("%d: %w", depth, err)
	}
	return nil
}

// undo is the broker: when the other end of its socket closes, it removes the file that it was told.
func undo() int {
	signal.Ignore(unix.SIGTERM)
	file, err := io.ReadAll(os.Stdin)
	if err == nil && len(file) > 0 {
		_, _ = os.NewFile(3, "server").Read(make([]byte, 1))
		err = os.Remove(string(file))
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// command is a supervisor whose server does one thing.
func command(t *testing.T, action, argument string, env ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), program, asSupervisor, action, argument)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// do runs such a supervisor to its end.
func do(t *testing.T, action, argument string, env ...string) (output string, status int) {
	cmd := command(t, action, argument, env...)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// asNobody starts a process as a user without any rights.
func asNobody() *syscall.SysProcAttr {
	const nobody = 65534
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
}
