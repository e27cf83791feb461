package sandbox

import (
	"errors"
	"os"
	"slices"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// restrictCalls installs the list of system calls, on all threads at once.
func restrictCalls(cfg *Config) error {
	machine, err := arch.GetInfo("")
	if err != nil {
		cfg.Log.Info("sandbox: there is no list of system calls for this machine, so they are not restricted", "err", err)
		return nil
	}
	err = seccomp.LoadFilter(seccomp.Filter{
		// TSYNC fails for threads that have another filter than this one. None has: nobody else here installs any.
		Flag:   seccomp.FilterFlagTSync | seccomp.FilterFlagLog,
		Policy: policy(cfg, machine.SyscallNames),
	})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // of the kernel, or of a sandbox around this one
		cfg.Log.Info("sandbox: there is no seccomp here, so system calls are not restricted", "err", err)
		return nil
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
		"recvfrom", "getsockopt", "setsockopt", "futex",
	}
}

// ioCalls are what vring and the packages that it uses do with their files and sockets. arm64 has ppoll instead of poll,
// and the list calls its newfstatat fstatat.
func ioCalls() []string {
	return []string{
		"accept4", "connect", "shutdown", "listen", "getsockname", "getpeername", "sendto", "preadv2",
		"close", "fcntl", "fstat", "fstatfs", "poll", "ppoll", "epoll_pwait", "epoll_create1", "epoll_ctl", "eventfd2",
		"newfstatat", "fstatat", "unlinkat",
		"munmap", "madvise",
	}
}

// runtimeCalls are what the Go runtime does besides.
func runtimeCalls() []string {
	return []string{
		"nanosleep", "sched_yield", "restart_syscall", // the kernel resumes a sleep so, after SIGSTOP and SIGCONT
		"clock_gettime", "gettimeofday", // where the vDSO cannot read the machine's clock
		"getpid", "gettid", "tgkill", // to preempt a thread
		"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",
		"sched_getaffinity", "pread64", // GOMAXPROCS follows the processors and the control group
		"getrandom",
		"exit", "exit_group",
		// With cgo, threads are those of a C library.
		"rseq", "set_robust_list", "brk", "clock_nanosleep",
	}
}

// conditionalCalls are allowed for some of their arguments.
func conditionalCalls(cfg *Config) []seccomp.NameWithConditions {
	const writing = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC
	calls := []seccomp.NameWithConditions{
		without("openat", 2, writing),
		without("mmap", 2, unix.PROT_EXEC),
		without("mprotect", 2, unix.PROT_EXEC),
		where("clone", 0, seccomp.BitsSet, unix.CLONE_THREAD),
		where("kill", 0, seccomp.Equal, uint64(os.Getpid())), // a crash with GOTRACEBACK=crash
		where("prctl", 0, seccomp.Equal, unix.PR_SET_VMA),    // names of the runtime's mappings
		where("prctl", 0, seccomp.Equal, unix.PR_SET_TIMERSLACK),
	}
	for _, request := range requests(cfg) {
		calls = append(calls, where("ioctl", 1, seccomp.Equal, request))
	}
	for _, family := range families(cfg) {
		calls = append(calls, where("socket", 0, seccomp.Equal, family))
	}
	return calls
}

// requests are those that ioctl may make.
func requests(cfg *Config) []uint64 {
	if !cfg.TAP {
		return nil
	}
	return []uint64{
		unix.TUNSETQUEUE, unix.TUNSETOFFLOAD, unix.TUNSETCARRIER,
		unix.SIOCGIFINDEX, unix.SIOCGIFMTU, unix.TUNSETIFF, unix.TUNSETVNETHDRSZ, unix.TUNSETVNETLE, // to join a device that came back
	}
}

// families are those that sockets may be made of.
func families(cfg *Config) (families []uint64) {
	if cfg.Internet {
		families = append(families, unix.AF_INET, unix.AF_INET6)
	}
	if len(cfg.Dial) > 0 {
		families = append(families, unix.AF_UNIX)
	}
	return families
}

func without(name string, argument uint32, bits uint64) seccomp.NameWithConditions {
	return where(name, argument, seccomp.BitsNotSet, bits)
}

func where(name string, argument uint32, op seccomp.Operation, value uint64) seccomp.NameWithConditions {
	return seccomp.NameWithConditions{
		Name: name, Conditions: seccomp.ArgumentConditions{{Argument: argument, Operation: op, Value: value}},
	}
}
