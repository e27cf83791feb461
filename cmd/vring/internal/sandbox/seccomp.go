package sandbox

import (
	"errors"
	"fmt"
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
	err = loadFilter(policy(cfg, machine.SyscallNames))
	if reason, lacking := whyMissing(err); lacking {
		return w.missing(reason), nil
	}
	return w, err
}

// loadFilter installs a list, on all threads or on none.
func loadFilter(p seccomp.Policy) error {
	// TSYNC fails for threads that have another filter than this one; without TSYNC_ESRCH (Linux 5.7) that is no error.
	const strict = seccomp.FilterFlag(unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH)
	flags := seccomp.FilterFlagTSync | seccomp.FilterFlagLog
	err := seccomp.LoadFilter(seccomp.Filter{Flag: flags | strict, Policy: p})
	if errors.Is(err, unix.EINVAL) {
		err = seccomp.LoadFilter(seccomp.Filter{Flag: flags, Policy: p})
	}
	if errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("a thread has a filter of its own: %w", err)
	}
	return err
}

// policy is the list for a machine that knows the given calls.
func policy(cfg *Config, known map[string]int) seccomp.Policy {
	refuse := seccomp.ActionTrap // see the package's documentation
	if cfg.Mode == Log {
		refuse = seccomp.ActionLog
	}
	names := slices.Concat(hotCalls(), ioCalls(), runtimeCalls())
	names = slices.DeleteFunc(names, func(name string) bool {
		_, ok := known[name]
		return !ok
	})
	return seccomp.Policy{
		DefaultAction: refuse,
		Syscalls: []seccomp.SyscallGroup{
			{Action: seccomp.ActionAllow, Names: names},
			{Action: seccomp.ActionAllow, NamesWithCondtions: conditionalCalls(cfg)},
			// A C library, which builds with cgo use, then takes clone: there the arguments can be looked at. In mode Log
			// as well: nothing is missing.
			{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{"clone3"}},
		},
	}
}

// hotCalls come first: kernels before 5.11, which do not remember verdicts, go through the list for each call.
func hotCalls() []string {
	return []string{
		"recvmsg", "sendmsg", "recvmmsg", "sendmmsg", "epoll_pwait2", "read", "write", "readv", "writev",
		"recvfrom", "getsockopt", "futex",
	}
}

// ioCalls are what vring and the packages that it uses do with their files and sockets. arm64 has ppoll instead of poll,
// and the list calls its newfstatat fstatat.
func ioCalls() []string {
	return []string{
		"accept4", "connect", "shutdown", "listen", "getsockname", "getpeername", "sendto", "preadv2",
		"close", "fstat", "fstatfs", "poll", "ppoll", "epoll_pwait", "epoll_create1", "epoll_ctl", "eventfd2",
		"newfstatat", "fstatat", "unlinkat", "flock",
		"munmap", "madvise",
	}
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
func conditionalCalls(cfg *Config) []seccomp.NameWithConditions {
	const writing = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC
	return slices.Concat(
		processCalls(uint64(os.Getpid())),
		fileCalls(),
		[]seccomp.NameWithConditions{
			where("openat", without(2, writing)),
			where("mmap", without(2, unix.PROT_EXEC)),
			where("mprotect", without(2, unix.PROT_EXEC)),
		},
		socketCalls(cfg), optionCalls(cfg), requestCalls(cfg))
}

// processCalls name a process or thread: this process, which is pid, and the calling thread, which is 0, are all that they
// may name. The kernel finds the thread of tgkill only within the process that is named with it.
func processCalls(pid uint64) []seccomp.NameWithConditions {
	return []seccomp.NameWithConditions{
		where("tgkill", equal(0, pid)), // the runtime preempts a thread
		where("kill", equal(0, pid)),   // a crash with GOTRACEBACK=crash
		where("clone", seccomp.Condition{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_THREAD}),
		where("sched_getaffinity", equal(0, 0)),                                        // GOMAXPROCS follows the processors
		where("prctl", equal(0, unix.PR_SET_VMA), equal(1, unix.PR_SET_VMA_ANON_NAME)), // names of the runtime's mappings
		where("prctl", equal(0, unix.PR_SET_TIMERSLACK)),
	}
}

// fileCalls are the commands of fcntl. What is not there has the kernel send signals, to whom one likes (F_SETOWN,
// F_SETSIG), or holds up others (leases, locks, pipes' sizes).
func fileCalls() (calls []seccomp.NameWithConditions) {
	for _, command := range []uint64{unix.F_GETFL, unix.F_GETFD, unix.F_SETFD, unix.F_DUPFD_CLOEXEC, unix.F_GET_SEALS} {
		calls = append(calls, where("fcntl", equal(1, command)))
	}
	return append(calls, where("fcntl", equal(1, unix.F_SETFL), without(2, unix.O_ASYNC)))
}

// requestCalls are the requests of ioctl.
func requestCalls(cfg *Config) (calls []seccomp.NameWithConditions) {
	var requests []uint64
	if cfg.TAP {
		requests = append(requests, unix.TUNSETQUEUE, unix.TUNSETOFFLOAD, unix.TUNSETCARRIER)
	}
	if cfg.TAP && cfg.Reopen {
		requests = append(requests, unix.SIOCGIFINDEX, unix.SIOCGIFMTU, unix.TUNSETIFF, unix.TUNSETVNETHDRSZ, unix.TUNSETVNETLE)
	}
	for _, request := range requests {
		calls = append(calls, where("ioctl", equal(1, request)))
	}
	return calls
}

// where is a call that is allowed if all conditions hold.
func where(name string, conditions ...seccomp.Condition) seccomp.NameWithConditions {
	return seccomp.NameWithConditions{Name: name, Conditions: conditions}
}

func equal(argument uint32, value uint64) seccomp.Condition {
	return seccomp.Condition{Argument: argument, Operation: seccomp.Equal, Value: value}
}

func without(argument uint32, bits uint64) seccomp.Condition {
	return seccomp.Condition{Argument: argument, Operation: seccomp.BitsNotSet, Value: bits}
}
