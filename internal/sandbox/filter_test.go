package sandbox

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// verdict runs the list on a call, as the kernel does. The words of package bpf are big-endian.
func verdict(t *testing.T, cfg *Config, name string, arguments ...uint64) seccomp.Action {
	machine := arch.X86_64
	vm, err := bpf.NewVM(allowed(cfg).program(machine))
	require.NoError(t, err)
	var data [offsetArgument + 6*8]byte
	binary.BigEndian.PutUint32(data[offsetNumber:], uint32(machine.SyscallNames[name]))
	binary.BigEndian.PutUint32(data[offsetMachine:], uint32(machine.ID))
	for i, a := range arguments {
		binary.BigEndian.PutUint32(data[offsetArgument+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[offsetArgument+8*i+4:], uint32(a>>32))
	}
	n, err := vm.Run(data[:])
	require.NoError(t, err)
	return seccomp.Action(n)
}

// Whatever the arguments are of a call that may not be made with them: they are not taken for the number of another call.
func TestAnArgumentIsNotTakenForACall(t *testing.T) {
	all := &Config{Internet: true, TAP: true, Reopen: true, Notify: 9}
	for name, number := range arch.X86_64.SyscallNames {
		_, denied := allowed(all).denied[name]
		if denied || number == os.Getpid() {
			continue
		}
		for _, second := range []uint64{0, unix.F_GETFL, unix.F_GETFD, 2, unix.SOL_SOCKET} {
			require.Equal(t, seccomp.ActionTrap, verdict(t, all, "kill", uint64(number), second), name)
			require.Equal(t, seccomp.ActionTrap, verdict(t, all, "tgkill", uint64(number), second, 2), name)
		}
	}
	require.Equal(t, seccomp.ActionAllow, verdict(t, all, "kill", uint64(os.Getpid()), 6))
}

func TestTheListLooksAtAllThatTheKernelLooksAt(t *testing.T) {
	pid, high := uint64(os.Getpid()), uint64(1)<<32
	internet, tap, notify := &Config{Internet: true}, &Config{TAP: true}, &Config{Internet: true, Notify: 9}
	groups := &Config{Internet: true, Multicast: true}
	logs := &Config{Logs: []Kept{{"/var/log/vring/audit", 7}}}
	const added = unix.O_RDWR | unix.O_APPEND | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	keeps := &Config{Keep: []Kept{{"/var/lib/vring/state", 7}}}
	const made = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	const allow, trap = seccomp.ActionAllow, seccomp.ActionTrap
	const eacces = seccomp.ActionErrno | seccomp.Action(unix.EACCES)
	const stream = unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	for name, c := range map[string]struct {
		cfg       *Config
		call      string
		arguments []uint64
		want      seccomp.Action
	}{
		"signal to itself":          {internet, "tgkill", []uint64{pid, pid, 23}, allow},
		"signal, hidden":            {internet, "tgkill", []uint64{pid | high, pid, 23}, trap},
		"thread":                    {internet, "clone", []uint64{unix.CLONE_THREAD | unix.CLONE_VM}, allow},
		"process":                   {internet, "clone", []uint64{unix.CLONE_VM}, trap},
		"thread of a library":       {internet, "clone3", nil, seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)},
		"code":                      {internet, "mmap", []uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, trap},
		"memory":                    {internet, "mmap", []uint64{0, 4096, unix.PROT_READ}, allow},
		"file":                      {internet, "openat", []uint64{0, 0, unix.O_RDONLY}, eacces},
		"file of a broker":          {&Config{Read: true}, "openat", []uint64{0, 0, unix.O_RDONLY}, allow},
		"file written by a broker":  {&Config{Read: true}, "openat", []uint64{0, 0, unix.O_RDWR}, eacces},
		"file, only logged":         {&Config{Mode: Log}, "openat", []uint64{0, 0, unix.O_RDWR}, seccomp.ActionLog},
		"file kept":                 {keeps, "openat", []uint64{7, 0, made}, allow},
		"file kept elsewhere":       {keeps, "openat", []uint64{8, 0, made}, eacces},
		"file kept in its place":    {keeps, "openat", []uint64{7, 0, made &^ unix.O_EXCL}, eacces},
		"file kept, emptied":        {keeps, "openat", []uint64{7, 0, unix.O_WRONLY | unix.O_TRUNC}, eacces},
		"file kept, read":           {keeps, "openat", []uint64{7, 0, unix.O_RDONLY}, eacces},
		"file kept, put in place":   {keeps, "renameat", []uint64{7, 0, 7, 0}, allow},
		"file taken away":           {keeps, "renameat", []uint64{7, 0, 8, 0}, trap},
		"file brought":              {keeps, "renameat", []uint64{8, 0, 7, 0}, trap},
		"file kept, on the disk":    {keeps, "fsync", []uint64{9}, allow},
		"file kept, locked":         {keeps, "flock", []uint64{9, unix.LOCK_EX}, allow},
		"file kept, removed":        {keeps, "unlinkat", []uint64{7, 0, 0}, allow},
		"file elsewhere, removed":   {keeps, "unlinkat", []uint64{8, 0, 0}, trap},
		"file put in place":         {internet, "renameat", []uint64{7, 0, 7, 0}, trap},
		"file added to":             {logs, "openat", []uint64{7, 0, added}, allow},
		"file added to elsewhere":   {logs, "openat", []uint64{8, 0, added}, eacces},
		"file written over":         {logs, "openat", []uint64{7, 0, added &^ unix.O_APPEND}, eacces},
		"file added to, emptied":    {logs, "openat", []uint64{7, 0, added | unix.O_TRUNC}, eacces},
		"file added to by a link":   {logs, "openat", []uint64{7, 0, added &^ unix.O_NOFOLLOW}, eacces},
		"file added to, renamed":    {logs, "renameat", []uint64{7, 0, 7, 0}, allow},
		"file added to, moved":      {logs, "renameat", []uint64{7, 0, 8, 0}, trap},
		"file added to, removed":    {logs, "unlinkat", []uint64{7, 0, 0}, trap},
		"file made shorter":         {logs, "ftruncate", []uint64{9, 0}, trap},
		"TCP":                       {internet, "socket", []uint64{unix.AF_INET6, stream, 0}, allow},
		"TCP, by name":              {internet, "socket", []uint64{unix.AF_INET6, stream, unix.IPPROTO_TCP}, allow},
		"UDP as a stream":           {internet, "socket", []uint64{unix.AF_INET6, stream, unix.IPPROTO_UDP}, trap},
		"TCP of a stub":             {&Config{}, "socket", []uint64{unix.AF_INET, stream, 0}, trap},
		"connection of a stub":      {&Config{}, "connect", []uint64{5}, trap},
		"port of a stub":            {&Config{}, "listen", []uint64{5}, trap},
		"netlink of a TAP device":   {tap, "socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, 0}, trap},
		"TAP":                       {tap, "ioctl", []uint64{5, unix.TUNSETQUEUE}, allow},
		"TAP that does not reopen":  {tap, "ioctl", []uint64{5, unix.TUNSETIFF}, trap},
		"TAP, hidden":               {tap, "ioctl", []uint64{5, unix.TUNSETQUEUE | high}, trap},
		"place of urgent data":      {internet, "ioctl", []uint64{5, unix.SIOCATMARK}, allow},
		"bytes that are queued":     {internet, "ioctl", []uint64{5, unix.SIOCINQ}, allow},
		"bytes that are not taken":  {internet, "ioctl", []uint64{5, unix.SIOCOUTQ}, allow},
		"urgent data of a TAP":      {tap, "ioctl", []uint64{5, unix.SIOCATMARK}, trap},
		"urgent data, hidden":       {internet, "ioctl", []uint64{5, unix.SIOCATMARK | high}, trap},
		"urgent data in line":       {internet, "setsockopt", []uint64{5, unix.SOL_SOCKET, unix.SO_OOBINLINE}, allow},
		"small packets":             {&Config{Accept: true}, "setsockopt", []uint64{5, unix.IPPROTO_TCP, unix.TCP_NODELAY}, allow},
		"small packets of a stub":   {&Config{}, "setsockopt", []uint64{5, unix.IPPROTO_TCP, unix.TCP_NODELAY}, trap},
		"room for a front end":      {&Config{}, "setsockopt", []uint64{5, unix.SOL_SOCKET, unix.SO_SNDBUF}, allow},
		"lingering":                 {&Config{Accept: true}, "setsockopt", []uint64{5, unix.SOL_SOCKET, unix.SO_LINGER}, trap},
		"membership":                {groups, "setsockopt", []uint64{5, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP}, allow},
		"membership without need":   {internet, "setsockopt", []uint64{5, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP}, trap},
		"group":                     {groups, "bind", []uint64{5}, allow},
		"port without need":         {internet, "bind", []uint64{5}, trap},
		"timer":                     {groups, "timerfd_settime", []uint64{5}, allow},
		"timer without need":        {internet, "timerfd_settime", []uint64{5}, trap},
		"message":                   {notify, "sendmsg", []uint64{8}, allow},
		"message by the manager":    {notify, "sendmsg", []uint64{9}, trap},
		"message, hidden":           {notify, "sendmmsg", []uint64{9 | high}, trap},
		"message without a manager": {internet, "sendmsg", []uint64{9 | high}, allow},
		"copy":                      {notify, "fcntl", []uint64{8, unix.F_DUPFD_CLOEXEC}, allow},
		"copy of the manager's":     {notify, "fcntl", []uint64{9, unix.F_DUPFD_CLOEXEC}, trap},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, verdict(t, c.cfg, c.call, c.arguments...))
		})
	}
}

// A program for another kind of processor has other numbers.
func TestAnotherMachinesCallsAreRefused(t *testing.T) {
	vm, err := bpf.NewVM(allowed(&Config{Internet: true}).program(arch.X86_64))
	require.NoError(t, err)
	var data [offsetArgument + 6*8]byte // number 0 is read
	for machine, want := range map[uint32]seccomp.Action{
		uint32(arch.X86_64.ID): seccomp.ActionAllow, uint32(arch.I386.ID): seccomp.ActionTrap,
	} {
		binary.BigEndian.PutUint32(data[offsetMachine:], machine)
		n, err := vm.Run(data[:])
		require.NoError(t, err)
		require.Equal(t, want, seccomp.Action(n))
	}
	binary.BigEndian.PutUint32(data[offsetMachine:], uint32(arch.X86_64.ID))
	binary.BigEndian.PutUint32(data[offsetNumber:], 0x40000000)
	n, err := vm.Run(data[:])
	require.NoError(t, err)
	require.Equal(t, seccomp.ActionTrap, seccomp.Action(n))
}
