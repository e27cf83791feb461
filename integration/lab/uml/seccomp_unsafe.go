package uml

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The requests of ptrace(2) that read and write the whole extended state of a processor.
const (
	ptraceGetRegSet = 0x4204
	ptraceSetRegSet = 0x4205
)

// Offsets in struct seccomp_data, see seccomp(2). A 64-bit argument is looked at in its lower half.
const (
	seccompNr   = 0
	seccompArch = 4
	seccompArg0 = 16
)

// refuseRegSets makes PTRACE_GETREGSET and PTRACE_SETREGSET fail with EIO on this thread and in all that it starts.
// Everything else is allowed: this is no sandbox.
func refuseRegSets() error {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
	)
	filter := []unix.SockFilter{
		{Code: load, K: seccompArch},
		{Code: equal, K: unix.AUDIT_ARCH_X86_64, Jf: 5},
		{Code: load, K: seccompNr},
		{Code: equal, K: unix.SYS_PTRACE, Jf: 3},
		{Code: load, K: seccompArg0},
		{Code: equal, K: ptraceGetRegSet, Jt: 2},
		{Code: equal, K: ptraceSetRegSet, Jt: 1},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EIO)},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return nil
}
