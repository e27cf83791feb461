package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Level says how bad a finding is.
type Level uint8

const (
	OK      Level = iota
	Note          // vring works, but something is slower or not possible
	Problem       // vring cannot be expected to work well
)

func (l Level) String() string { return [...]string{"ok", "note", "PROBLEM"}[l] }

// Finding is the result of one check.
type Finding struct {
	Level  Level
	What   string // was looked at
	Found  string
	Advice string // what can be done, and what for; empty if nothing needs to be
}

// Host is how the host is looked at.
type Host struct {
	Kernel     string                               // release, as uname -r prints it
	PeekOffset bool                                 // SO_PEEK_OFF works for TCP
	OpenFiles  int                                  // limit of open files of a process
	NetAdmin   bool                                 // CAP_NET_ADMIN is effective
	User       int                                  // number of the user
	PingError  error                                // why echo requests cannot be sent, nil if they can
	Open       func(path string) error              // opens a device for reading and writing, and closes it
	KVM        func() error                         // makes a machine and a processor, and has it run an instruction
	Sandbox    func() ([]string, error)             // enters the sandbox in another process; returns what it lacks
	ReadFile   func(path string) ([]byte, error)    // as os.ReadFile
	Version    func(program string) (string, error) // first line that program --version prints
	QEMU       string                               // name of the QEMU program for this machine

	Socket      string                                 // path of the socket that a guest is to have
	CheckSocket func(path string) error                // tells why no socket can be made at a path
	Mode        func(path string) (fs.FileMode, error) // of a file
}

const (
	// fewFiles is too small: every connection of the guest is an open file.
	fewFiles = 1024
	// manyFiles is enough for all connections that an engine keeps by default.
	manyFiles = 16384 + 1024
)

// Examine makes all checks.
func Examine(h *Host) []Finding {
	findings := []Finding{
		h.kernel(), h.openFiles(), h.ping(), h.ipv6(), h.lowPorts(), h.socket(), h.sandbox(), h.qemu(), h.kvm(), h.memory(), h.tun(), h.netAdmin(),
	}
	if f, ok := h.apparmor(); ok {
		findings = append(findings, f)
	}
	return findings
}

// Worst returns the highest level among findings.
func Worst(findings []Finding) Level {
	worst := OK
	for _, f := range findings {
		worst = max(worst, f.Level)
	}
	return worst
}

// Format is the findings as aligned text, each with its advice below it.
func Format(findings []Finding) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Level, f.What, f.Found)
		if f.Advice != "" {
			fmt.Fprintf(t, "\t\t  %s\n", f.Advice)
		}
	}
	_ = t.Flush()
	return b.String()
}

func (h *Host) kernel() Finding {
	f := Finding{What: "kernel", Found: "Linux " + h.Kernel + ", SO_PEEK_OFF for TCP"}
	if !h.PeekOffset {
		f.Level, f.Found = Note, "Linux "+h.Kernel+", no SO_PEEK_OFF for TCP"
		f.Advice = "Linux 6.9 has it: downloads of a guest then cost less processor time."
	}
	return f
}

func (h *Host) openFiles() Finding {
	f := Finding{What: "open files", Found: fmt.Sprintf("%d for each process", h.OpenFiles)}
	switch {
	case h.OpenFiles < fewFiles:
		f.Level = Problem
	case h.OpenFiles < manyFiles:
		f.Level = Note
	default:
		return f
	}
	f.Advice = fmt.Sprintf("Each connection is an open file. Raise it: ulimit -Hn %d, or LimitNOFILE= of a unit.", 4*manyFiles)
	return f
}

func (h *Host) ping() Finding {
	f := Finding{What: "ping", Found: "guests can ping the outside"}
	if h.PingError != nil {
		f.Level, f.Found = Note, "guests can ping their router only"
		f.Advice = `As root: sysctl -w net.ipv4.ping_group_range="0 2147483647"`
	}
	return f
}

// ipv6 looks for a way out into IPv6. Without one nothing is amiss: guests prefer IPv4 then.
func (h *Host) ipv6() Finding {
	f := Finding{What: "IPv6", Found: "guests can reach what the host reaches"}
	table, err := h.ReadFile("/proc/net/ipv6_route")
	switch {
	case err != nil:
		f.Found, f.Advice = "the kernel has none", "Guests have IPv4 only."
	case !hasDefaultRoute(string(table)):
		f.Found = "no default route"
		f.Advice = "Guests speak it with the host, and learn at once that the rest cannot be reached. --network6 off does without."
	}
	return f
}

// hasDefaultRoute reads the kernel's table of IPv6 routes: destination and its length come first, flags and device last.
func hasDefaultRoute(table string) bool {
	const toAll, flagsFromEnd, reject = "00000000000000000000000000000000", 2, 0x0200
	for line := range strings.Lines(table) {
		columns := strings.Fields(line)
		if len(columns) < 10 || columns[0] != toAll || columns[1] != "00" {
			continue
		}
		flags, err := strconv.ParseUint(columns[len(columns)-flagsFromEnd], 16, 32)
		if err == nil && flags&reject == 0 {
			return true
		}
	}
	return false
}

func (h *Host) qemu() Finding {
	f := Finding{What: "QEMU"}
	version, err := h.Version(h.QEMU)
	if err != nil {
		f.Level, f.Found = Note, h.QEMU+" is not installed, or does not run"
		f.Advice = "On Debian: apt-get install qemu-system-x86. User-mode Linux and DPDK are front ends, too."
		return f
	}
	f.Found = version
	return f
}

// kvm looks whether guests can run on the processor itself.
func (h *Host) kvm() Finding {
	f := Finding{What: "KVM", Found: "a machine was made, and its processor ran"}
	err := h.KVM()
	if err == nil {
		return f
	}
	f.Level, f.Found = Note, err.Error()
	switch {
	case errors.Is(err, fs.ErrPermission):
		f.Advice = "Guests run emulated, slowly (-accel tcg). /dev/kvm is open to its group: as root, usermod -aG kvm USER, and log in again."
	case errors.Is(err, fs.ErrNotExist):
		f.Advice = "Guests run emulated, slowly (-accel tcg). As root: modprobe kvm_intel or kvm_amd. If that fails, virtualization is off in the firmware, or not passed on to this virtual machine."
	default:
		f.Advice = "Guests run emulated, slowly (-accel tcg): with -accel kvm they would fail. In a virtual machine, nested virtualization is broken or off."
	}
	return f
}

// memory looks whether there is any for guests, whose memory is shared and cannot be more than what is free. Huge pages are
// told of if there are any.
func (h *Host) memory() Finding {
	f := Finding{What: "memory"}
	info, err := h.ReadFile("/proc/meminfo")
	if err != nil {
		f.Level, f.Found = Note, err.Error()
		return f
	}
	var available, total, free int
	for line := range strings.Lines(string(info)) {
		_, _ = fmt.Sscanf(line, "MemAvailable: %d kB", &available)
		_, _ = fmt.Sscanf(line, "HugePages_Total: %d", &total)
		_, _ = fmt.Sscanf(line, "HugePages_Free: %d", &free)
	}
	f.Found = fmt.Sprintf("%d MiB for guests", available>>10)
	if total > 0 {
		f.Found += fmt.Sprintf("; %d huge pages reserved, %d free", total, free)
	}
	const little = 1 << 20 // the printed commands' guest
	if available < little {
		f.Level, f.Advice = Note, "A guest of 1 GiB does not fit, and may be killed when it uses its memory: give it less (-m, and size= of its memory)."
	}
	return f
}

// lowPorts looks from which port on forwards can begin.
func (h *Host) lowPorts() Finding {
	const file, usual = "/proc/sys/net/ipv4/ip_unprivileged_port_start", 1024
	f := Finding{What: "ports", Found: "forwards can use all"}
	text, err := h.ReadFile(file)
	first, failed := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || failed != nil {
		first = usual
	}
	if h.User != 0 && first > 0 {
		f.Found = fmt.Sprintf("forwards can use those from %d on", first)
	}
	return f
}

// sandbox looks whether it can be had as a whole.
func (h *Host) sandbox() Finding {
	f := Finding{What: "sandbox", Found: "all walls stand"}
	if h.Sandbox == nil {
		f.Level, f.Found = Note, "nobody has tried it"
		return f
	}
	lacks, err := h.Sandbox()
	switch {
	case err != nil:
		f.Level, f.Found = Problem, err.Error()
		f.Advice = "vring does not start but with --sandbox=off."
	case len(lacks) > 0:
		f.Level, f.Found = Note, strings.Join(lacks, "; ")
		f.Advice = "vring starts with less between a guest that breaks out and this user, and warns. --sandbox=strict refuses to."
	}
	return f
}

func (h *Host) tun() Finding {
	f := Finding{What: "/dev/net/tun", Found: "can be used"}
	if err := h.Open("/dev/net/tun"); err != nil {
		f.Level, f.Found = Note, err.Error()
		f.Advice = "vring tap needs it, vring nat does not. As root: modprobe tun"
		if errors.Is(err, fs.ErrPermission) {
			f.Advice = "vring tap needs it, vring nat does not. As root: chmod 0666 /dev/net/tun"
		}
	}
	return f
}

func (h *Host) netAdmin() Finding {
	if h.NetAdmin {
		return Finding{
			What: "CAP_NET_ADMIN", Found: "yes",
			Advice: "vring tap makes TAP devices and bridges by it. vring nat does not need it, and is safer without.",
		}
	}
	return Finding{
		What: "CAP_NET_ADMIN", Found: "no; vring nat does not need it",
		Advice: fmt.Sprintf("vring tap can use a TAP device of this user. As root: ip tuntap add dev tap0 mode tap multi_queue vnet_hdr user %d", h.User),
	}
}
