package sandbox

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// job is what a child process is to do in its sandbox.
type job struct {
	Action string
	Path   string // what the action is about
	Config Config
	Lacks  []string   // system calls that the kernel of the child does not have
	Refuse unix.Errno // what those calls answer, ENOSYS if it is 0

	Powerless bool // the child has no capabilities to begin with
	Notify    bool // the child is connected to the service manager, which listens at manager in the directory Path
	OddThread bool // a thread of the child has a filter that the others do not have
}

// asChild holds the job in the environment of a child.
const asChild = "VRING_TEST_SANDBOX"

func TestMain(m *testing.M) {
	if text := os.Getenv(asChild); text != "" {
		os.Exit(child(text))
	}
	os.Exit(m.Run())
}

// child does a job and prints how that ended.
func child(text string) int {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		panic(err)
	}
	j.Config.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	if j.Powerless {
		if err := cap.NewSet().SetProc(); err != nil {
			panic(err)
		}
	}
	if err := loseCalls(j.Lacks, cmp.Or(j.Refuse, unix.ENOSYS), seccomp.FilterFlagTSync); err != nil {
		panic(err)
	}
	if j.OddThread {
		oddThread()
	}
	if j.Notify {
		j.Config.Notify = connectDatagrams(filepath.Join(j.Path, "manager"))
	}
	act := actions(j.Config.Notify)[j.Action] // made outside: the sandbox is for the action alone
	state, err := Enter(j.Config)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if j.Action == "state" {
		fmt.Println(state)
	}
	if err := act(j.Path); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("done")
	return 0
}

// loseCalls makes the kernel answer system calls as one that does not know them, or with another error.
func loseCalls(names []string, answer unix.Errno, threads seccomp.FilterFlag) error {
	if len(names) == 0 {
		return nil
	}
	return seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: threads, Policy: seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		Syscalls:      []seccomp.SyscallGroup{{Action: seccomp.ActionErrno | seccomp.Action(answer), Names: names}},
	}})
}

// oddThread makes a thread that has a filter of its own, and stays.
func oddThread() {
	ready := make(chan error)
	go func() {
		runtime.LockOSThread()
		ready <- loseCalls([]string{"acct"}, unix.ENOSYS, 0)
		select {}
	}()
	if err := <-ready; err != nil {
		panic(err)
	}
}

// start begins a job in a child process.
func start(t *testing.T, j job) *exec.Cmd {
	text, err := json.Marshal(j)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), asChild+"="+string(text), "GORACE=atexit_sleep_ms=0")
	return cmd
}

// do does a job and returns what the child printed, and its exit status.
func do(t *testing.T, j job) (output string, status int) {
	cmd := start(t, j)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// actions are what children try.
func actions(notify int) map[string]func(path string) error {
	parent := os.Getppid()
	anyone, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	command := func(cmd, value int) error { return second(unix.FcntlInt(uintptr(anyone), cmd, value)) }
	return map[string]func(string) error{
		"read":   func(path string) error { return second(os.ReadFile(path)) },
		"write":  func(path string) error { return second(os.OpenFile(path, os.O_WRONLY, 0)) },
		"create": func(path string) error { return second(os.Create(path)) },
		"remove": os.Remove,
		"look":   func(path string) error { return second(os.Stat(path)) },
		"list":   func(path string) error { return second(os.ReadDir(path)) },
		"dial":   func(path string) error { return second(net.Dial("unix", path)) },

		"execute":                 func(path string) error { return unix.Exec(path, []string{path}, nil) },
		"start process":           func(path string) error { return second(os.StartProcess(path, []string{path}, &os.ProcAttr{})) },
		"signal parent by tgkill": func(string) error { return unix.Tgkill(parent, parent, unix.SIGTERM) },
		"signal itself":           func(string) error { return unix.Tgkill(os.Getpid(), os.Getpid(), unix.SIGURG) },
		"owner by fcntl":          func(string) error { return command(unix.F_SETOWN, parent) },
		"signal by fcntl":         func(string) error { return command(unix.F_SETSIG, int(unix.SIGTERM)) },
		"asynchronous":            func(string) error { return command(unix.F_SETFL, unix.O_ASYNC) },
		"lease":                   func(string) error { return command(unix.F_SETLEASE, unix.F_WRLCK) },
		"not blocking":            func(string) error { return unix.SetNonblock(anyone, true) },
		"owner by ioctl":          func(string) error { return unix.IoctlSetPointerInt(anyone, unix.SIOCSPGRP, parent) },
		"affinity of parent":      func(string) error { return unix.SchedGetaffinity(parent, new(unix.CPUSet)) },
		"affinity":                func(string) error { return unix.SchedGetaffinity(0, new(unix.CPUSet)) },
		"prctl":                   func(string) error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) },
		"bind to device":          func(string) error { return unix.BindToDevice(anyone, "lo") },
		"mark":                    func(string) error { return unix.SetsockoptInt(anyone, unix.SOL_SOCKET, unix.SO_MARK, 1) },
		"filter":                  func(string) error { return unix.SetsockoptInt(anyone, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 1) },
		"hop limit":               func(string) error { return unix.SetsockoptInt(anyone, unix.IPPROTO_IP, unix.IP_TTL, 9) },

		// Other ways to what the list does not allow by their usual names.
		"open by openat2":            func(path string) error { return second(unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{})) },
		"rename":                     func(path string) error { return unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, path+"2", 0) },
		"link":                       func(path string) error { return unix.Linkat(unix.AT_FDCWD, path, unix.AT_FDCWD, path+"2", 0) },
		"make a directory":           func(path string) error { return unix.Mkdirat(unix.AT_FDCWD, path+"2", 0o700) },
		"unix sockets, two":          func(string) error { return second(unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)) },
		"signal parent by a queue":   func(string) error { return raw(unix.SYS_RT_SIGQUEUEINFO, parent, int(unix.SIGTERM), 0) },
		"signal a thread by a queue": func(string) error { return raw(unix.SYS_RT_TGSIGQUEUEINFO, parent, parent, int(unix.SIGTERM)) },
		"signal parent by its file":  func(string) error { return unix.PidfdSendSignal(anyone, unix.SIGTERM, nil, 0) },
		"file of parent":             func(string) error { return second(unix.PidfdOpen(parent, 0)) },
		"ring of system calls":       func(string) error { return raw(unix.SYS_IO_URING_SETUP, 1, 0, 0) },

		"trace":          func(string) error { return unix.PtraceAttach(parent) },
		"kill parent":    func(string) error { return unix.Kill(parent, unix.SIGTERM) },
		"mount":          func(path string) error { return unix.Mount("none", path, "tmpfs", 0, "") },
		"unshare":        func(string) error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"change user":    func(string) error { return second(unix.SetfsuidRetUid(1)) },
		"raise limit":    func(string) error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) },
		"bind":           func(string) error { return bind() },
		"make code":      func(string) error { return mapMemory(unix.PROT_EXEC) },
		"read memory":    func(string) error { return second(unix.ProcessVMReadv(parent, nil, nil, 0)) },
		"netlink socket": func(string) error { return openSocket(unix.AF_NETLINK, unix.SOCK_RAW) },
		"packet socket":  func(string) error { return openSocket(unix.AF_PACKET, unix.SOCK_RAW) },
		"unix socket":    func(string) error { return openSocket(unix.AF_UNIX, unix.SOCK_STREAM) },
		"raw socket":     func(string) error { return openSocket(unix.AF_INET, unix.SOCK_RAW) },
		"TCP socket":     func(string) error { return openSocket(unix.AF_INET, unix.SOCK_STREAM) },
		"IPv6 socket":    func(string) error { return openSocket(unix.AF_INET6, unix.SOCK_DGRAM) },
		"ping socket":    func(string) error { return openProtocol(unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6) },
		"SCTP socket":    func(string) error { return openProtocol(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP) },
		"MPTCP socket":   func(string) error { return openProtocol(unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP) },
		"DCCP socket":    func(string) error { return openProtocol(unix.AF_INET, unix.SOCK_DCCP, unix.IPPROTO_DCCP) },
		"UDPLite socket": func(string) error { return openProtocol(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE) },

		"notify":             func(string) error { return second(unix.Write(notify, []byte("x"))) },
		"notify another":     func(dir string) error { return unix.Sendto(notify, []byte("x"), 0, other(dir)) },
		"message to another": func(dir string) error { return second(unix.SendmsgN(notify, []byte("x"), nil, other(dir), 0)) },
		"connect to another": func(dir string) error { return unix.Connect(notify, other(dir)) },
		"connect with a hidden number": func(string) error {
			_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(notify)|1<<32, 0, 0)
			return errno
		},
		"copy": func(string) error { return second(unix.FcntlInt(uintptr(notify), unix.F_DUPFD_CLOEXEC, 0)) },

		"live":  live,
		"state": func(string) error { return nil },
		"wait":  wait,
	}
}

// other is the address of a socket that is none of the child's.
func other(dir string) unix.Sockaddr { return &unix.SockaddrUnix{Name: filepath.Join(dir, "other")} }

// connectDatagrams returns a socket that is connected to the one at path.
func connectDatagrams(path string) int {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		panic(err)
	}
	return fd
}

// raw makes a system call that no package has a name for.
func raw(call uintptr, a, b, c int) error {
	if _, _, errno := unix.Syscall(call, uintptr(a), uintptr(b), uintptr(c)); errno != 0 {
		return errno
	}
	return nil
}

func second[T any](_ T, err error) error { return err }

func openSocket(family, kind int) error { return openProtocol(family, kind, 0) }

// openProtocol takes it for an answer that the host permits no pings: the call was made.
func openProtocol(family, kind, protocol int) error {
	_, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	if protocol == unix.IPPROTO_ICMPV6 && errors.Is(err, unix.EACCES) {
		return nil
	}
	return err
}

// bind takes a port. Package net would make a socket of multipath TCP, of which Landlock knows nothing.
func bind() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
}

func mapMemory(protection int) error {
	return second(unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|protection, unix.MAP_PRIVATE|unix.MAP_ANON))
}

// wait tells the test that the sandbox is up, and waits for a line.
func wait(string) error {
	fmt.Println("in the sandbox")
	return second(bufio.NewReader(os.Stdin).ReadString('\n'))
}

// live makes the runtime work: threads begin and end, memory grows and is given back, time passes, a goroutine that does
// not call anything is preempted.
func live(string) error {
	done := make(chan error)
	for range 32 {
		go func() {
			runtime.LockOSThread() // and not unlocked: the thread ends too
			memory := make([]byte, 8<<20)
			for i := 0; i < len(memory); i += 4096 {
				memory[i] = 1
			}
			time.Sleep(time.Millisecond)
			done <- mapMemory(unix.PROT_WRITE)
		}()
	}
	var err error
	for range 32 {
		err = errors.Join(err, <-done)
	}
	go func() {
		for i := 0; ; i++ {
			_ = i
		}
	}()
	for range 3 {
		runtime.GC()
	}
	return err
}

// statusOf reads the lines of all threads' status (proc(5)) that begin with key, without repetitions.
func statusOf(t *testing.T, pid int, key string) (values []string) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	require.NoError(t, err)
	require.Greater(t, len(files), 1, "threads")
	seen := map[string]bool{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the thread has ended
		}
		require.NoError(t, err)
		for line := range strings.Lines(string(content)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			if name == key && !seen[value] {
				seen[value] = true
				values = append(values, value)
			}
		}
	}
	return values
}
