package doctor

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const kvmPath = "/dev/kvm"

// Requests of KVM's devices, and what they return (linux/kvm.h).
const (
	kvmCreateVM      = 0xae01
	kvmGetMmapSize   = 0xae04
	kvmCreateVCPU    = 0xae41
	kvmSetMemory     = 0x4020ae46 // KVM_SET_USER_MEMORY_REGION
	kvmSetTSSAddress = 0xae47
	kvmRun           = 0xae80
	exitHalted       = 5 // KVM_EXIT_HLT
	exitReason       = 8 // offset in struct kvm_run
)

// kvmMemory is struct kvm_userspace_memory_region.
type kvmMemory struct {
	slot, flags                     uint32
	address, size, userspaceAddress uint64
}

// HasKVM reports whether KVM makes a machine with a processor that can run any guest. Nothing runs in it.
func (h *Host) HasKVM() bool { return tryKVM(kvmPath, false) == nil }

// errNoVirtualization is that KVM is there on a processor that cannot virtualize: by software such as PVM. There a guest's kernel must
// be one that was made for it; others fail with "KVM internal error" while they boot.
var errNoVirtualization = errors.New("the processor has neither VMX nor SVM, so ordinary guests do not run")

// checkProcessor returns why a processor runs no ordinary guests. cpuinfo is /proc/cpuinfo on amd64.
func checkProcessor(cpuinfo string) error {
	for line := range strings.Lines(cpuinfo) {
		name, flags, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) != "flags" {
			continue
		}
		all := strings.Fields(flags)
		if slices.Contains(all, "vmx") || slices.Contains(all, "svm") {
			return nil
		}
		return errNoVirtualization
	}
	return nil // nobody knows
}

// tryProcessor looks at the processors of this host.
func tryProcessor() error {
	if runtime.GOARCH != "amd64" {
		return nil
	}
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil // nobody knows
	}
	return checkProcessor(string(cpuinfo))
}

// tryKVM makes a machine and a processor by the device at path, and has it run an instruction if run is set.
func tryKVM(path string, run bool) error {
	kvm, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer kvm.Close()
	vm, err := request(int(kvm.Fd()), kvmCreateVM, 0)
	if err != nil {
		return fmt.Errorf("%s can be opened, but makes no machine: %w", path, err)
	}
	defer unix.Close(vm)
	vcpu, err := request(vm, kvmCreateVCPU, 0)
	if err != nil {
		return fmt.Errorf("%s can be opened, but makes no processor: %w", path, err)
	}
	defer unix.Close(vcpu)
	if err := tryProcessor(); err != nil {
		return fmt.Errorf("%s makes a machine, but %w", path, err)
	}
	if !run || runtime.GOARCH != "amd64" {
		return nil
	}
	size, err := request(int(kvm.Fd()), kvmGetMmapSize, 0)
	if err == nil {
		err = halt(vm, vcpu, size)
	}
	if err != nil {
		return fmt.Errorf("%s makes a machine that does not run: %w", path, err)
	}
	return nil
}

// halt has a processor run from where it begins, the last 16 bytes below 4 GiB, where it finds hlt and nothing else.
func halt(vm, vcpu, size int) error {
	const page, hlt = 4096, 0xf4
	code, err := unix.Mmap(-1, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	for i := range code {
		code[i] = hlt
	}
	memory := kvmMemory{address: 1<<32 - page, size: page, userspaceAddress: uint64(uintptr(unsafe.Pointer(&code[0])))}
	if _, err := request(vm, kvmSetMemory, uintptr(unsafe.Pointer(&memory))); err != nil {
		return err
	}
	_, _ = request(vm, kvmSetTSSAddress, 0xfffbd000) // for processors that cannot run 16-bit code in a guest
	state, err := unix.Mmap(vcpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	if err := runBriefly(vcpu); err != nil {
		return err // what is mapped stays: it may still be in use
	}
	if reason := *(*uint32)(unsafe.Pointer(&state[exitReason])); reason != exitHalted {
		return fmt.Errorf("it ended for reason %d instead of halting", reason)
	}
	return errors.Join(unix.Munmap(state), unix.Munmap(code))
}

// runBriefly lets a processor run, and does not wait long. What does not end keeps a thread, until the process ends.
func runBriefly(vcpu int) error {
	const patience = 5 * time.Second
	done := make(chan error, 1)
	go func() {
		_, err := request(vcpu, kvmRun, 0)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return os.ErrDeadlineExceeded
	}
}

// request is ioctl(2), again if a signal interrupts it.
func request(fd int, number, argument uintptr) (int, error) {
	for {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), number, argument)
		if errno == 0 {
			return int(n), nil
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}
