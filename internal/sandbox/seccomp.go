package sandbox

import (
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// restrictCalls installs the list of system calls, on all threads at once.
func restrictCalls(cfg *Config) (Wall, error) {
	w := Wall{Name: "seccomp", Keeps: "all system calls but those of a list"}
	machine, err := arch.GetInfo("")
	if err != nil {
		return w.missing(fmt.Sprintf("there is no list of system calls for this machine (%v)", err)), nil
	}
	err = load(allowed(cfg).program(machine))
	if reason, lacking := whyMissing(err); lacking {
		return w.missing(reason), nil
	}
	return w, err
}

// allowed is the list.
func allowed(cfg *Config) *list {
	l := &list{
		refuse: seccomp.ActionTrap, // see the package's documentation
		// A C library, which builds with cgo use, then takes clone: there the arguments can be looked at. In mode Log as well:
		// nothing is missing.
		denied: map[string]seccomp.Action{"clone3": seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)},
	}
	for _, name := range slices.Concat(hotCalls(), ioCalls(), runtimeCalls(), fileCalls(cfg), portCalls(cfg), timerCalls(cfg), childCalls(cfg)) {
		l.calls = append(l.calls, call{name: name})
	}
	l.calls = slices.Concat(addressCalls(cfg), l.calls, conditionalCalls(cfg))
	if cfg.Mode == Log {
		l.refuse = seccomp.ActionLog
		return l
	}
	for _, name := range pathCalls() {
		l.denied[name] = seccomp.ActionErrno | seccomp.Action(unix.EACCES)
	}
	return l
}

// sortedKeys makes what is made from a map the same each time.
func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

// hotCalls come first: kernels before 5.11, which do not remember verdicts, go through the list for each call.
func hotCalls() []string {
	return []string{
		"recvmsg", "recvmmsg", "epoll_pwait2", "read", "write", "readv", "writev", "recvfrom", "getsockopt", "futex",
	}
}

// ioCalls are what vring and the packages that it uses do with their files and sockets. arm64 has ppoll instead of poll.
func ioCalls() []string {
	return []string{
		"accept4", "shutdown", "getsockname", "getpeername", "preadv2",
		"close", "fstat", "fstatfs", "poll", "ppoll", "epoll_pwait", "epoll_create1", "epoll_ctl", "eventfd2",
		"munmap", "madvise",
	}
}

// pathCalls look for files that a library can do without. They are answered as if the file was out of bounds.
func pathCalls() []string { return []string{"openat", "newfstatat", "fstatat", "readlinkat"} }

// fileCalls find files by their paths. The list of arm64 calls its newfstatat fstatat.
func fileCalls(cfg *Config) (calls []string) {
	if cfg.Read || cfg.removes() {
		calls = append(calls, "newfstatat", "fstatat")
	}
	if cfg.removes() {
		calls = append(calls, "unlinkat", "flock")
	}
	if len(cfg.Keep) > 0 {
		calls = append(calls, "fsync", "flock")
	}
	if len(cfg.MakeIn) > 0 {
		calls = append(calls, "fchmod") // of a socket that has no file yet
	}
	if cfg.GiveGroup {
		calls = append(calls, "fchownat", "fchmodat")
	}
	return calls
}

// removes reports whether files of sockets are removed.
func (c *Config) removes() bool { return len(c.Remove)+len(c.MakeIn) > 0 }

// timerCalls set timers that are open.
func timerCalls(cfg *Config) (calls []string) {
	if cfg.Multicast {
		calls = append(calls, "timerfd_settime")
	}
	return calls
}

// childCalls wait for the end of a process. Kernels before 5.4 have no waitid for what the Go runtime waits with.
func childCalls(cfg *Config) (calls []string) {
	if cfg.Children {
		calls = append(calls, "waitid", "wait4")
	}
	return calls
}

// runtimeCalls are what the Go runtime does besides.
func runtimeCalls() []string {
	return []string{
		"nanosleep", "sched_yield", "restart_syscall", // the kernel resumes a sleep so, after SIGSTOP and SIGCONT
		"clock_gettime", "gettimeofday", // where the vDSO cannot read the machine's clock
		"getpid", "gettid",
		"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",
		"pread64", // GOMAXPROCS follows the control group, whose files are open
		"getrandom",
		"exit", "exit_group",
		// With cgo, threads are those of a C library.
		"rseq", "set_robust_list", "brk", "clock_nanosleep",
	}
}

// conditionalCalls are allowed for some of their arguments.
func conditionalCalls(cfg *Config) []call {
	calls := slices.Concat(processCalls(uint32(os.Getpid())), descriptorCalls(cfg), []call{
		where("mmap", condition{2, withoutBit, unix.PROT_EXEC}),
		where("mprotect", condition{2, withoutBit, unix.PROT_EXEC}),
	}, socketCalls(cfg), optionCalls(cfg), requestCalls(cfg))
	if cfg.Pin {
		calls = append(calls, where("sched_setaffinity", condition{0, equal, 0}))
	}
	if cfg.Read || cfg.removes() {
		const writing = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC
		calls = append(calls, where("openat", condition{2, withoutBit, writing}))
	}
	return append(append(calls, keepCalls(cfg)...), logCalls(cfg)...)
}

// keepCalls write files that take the place of others. They name no files but those in the directories of these, and open none that is there.
func keepCalls(cfg *Config) (calls []call) {
	const made = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	for _, k := range cfg.Keep {
		in := uint32(k.In)
		calls = append(calls,
			where("openat", condition{0, equal, in}, condition{2, equal, made}),
			where("renameat", condition{0, equal, in}, condition{2, equal, in}))
		if !cfg.removes() {
			calls = append(calls, where("unlinkat", condition{0, equal, in}))
		}
	}
	return calls
}

// logCalls open files to which is added, and give them other names. They name no files but those in the directories of these, and change
// nothing that is in them already: the kernel writes behind it (O_APPEND).
func logCalls(cfg *Config) (calls []call) {
	const added = unix.O_RDWR | unix.O_APPEND | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	for _, k := range cfg.Logs {
		in := uint32(k.In)
		calls = append(calls,
			where("openat", condition{0, equal, in}, condition{2, equal, added}),
			where("renameat", condition{0, equal, in}, condition{2, equal, in}))
	}
	return calls
}

// processCalls name a process or thread: this process, which is pid, and the calling thread, which is 0, are all that they
// may name. The kernel finds the thread of tgkill only within the process that is named with it.
func processCalls(pid uint32) []call {
	return []call{
		where("tgkill", condition{0, equal, pid}), // the runtime preempts a thread
		where("kill", condition{0, equal, pid}),   // a crash with GOTRACEBACK=crash
		where("clone", condition{0, withBit, unix.CLONE_THREAD}),
		where("sched_getaffinity", condition{0, equal, 0}),                                                   // GOMAXPROCS follows the processors
		where("prctl", condition{0, equal, unix.PR_SET_VMA}, condition{1, equal, unix.PR_SET_VMA_ANON_NAME}), // names of the runtime's mappings
		where("prctl", condition{0, equal, unix.PR_SET_TIMERSLACK}),
	}
}

// descriptorCalls are the commands of fcntl. What is not there has the kernel send signals, to whom one likes (F_SETOWN,
// F_SETSIG), or holds up others (leases, locks, pipes' sizes).
func descriptorCalls(cfg *Config) (calls []call) {
	for _, command := range []uint32{unix.F_GETFL, unix.F_GETFD, unix.F_SETFD, unix.F_GET_SEALS} {
		calls = append(calls, where("fcntl", condition{1, equal, command}))
	}
	return append(calls,
		where("fcntl", condition{1, equal, unix.F_SETFL}, condition{2, withoutBit, unix.O_ASYNC}),
		where("fcntl", append(cfg.notOnNotify(), condition{1, equal, unix.F_DUPFD_CLOEXEC})...))
}

// requestCalls are the requests of ioctl.
func requestCalls(cfg *Config) (calls []call) {
	var requests []uint32
	if cfg.Internet {
		requests = append(requests, unix.SIOCATMARK, unix.SIOCINQ, unix.SIOCOUTQ) // where urgent data are, and what a peer has yet to take
	}
	if cfg.TAP {
		requests = append(requests, unix.TUNSETQUEUE, unix.TUNSETOFFLOAD, unix.TUNSETCARRIER)
	}
	if cfg.TAP && cfg.Reopen {
		requests = append(requests, unix.SIOCGIFINDEX, unix.SIOCGIFMTU, unix.TUNSETIFF, unix.TUNSETVNETHDRSZ, unix.TUNSETVNETLE)
	}
	for _, request := range requests {
		calls = append(calls, where("ioctl", condition{1, equal, request}))
	}
	return calls
}

// where is a call that is allowed if all conditions hold.
func where(name string, conditions ...condition) call { return call{name, conditions} }
