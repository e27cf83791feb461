package doctor

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Lines of /proc/net/ipv6_route.
const (
	nowhere      = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
	defaultRoute = nowhere + "fd000000000000000000000000000001 00000400 00000003 00000000 00000003     eth0\n"
	rejected     = nowhere + "00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n"
	localRoute   = "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 " +
		"00000100 00000001 00000000 00000001     eth0\n"
)

// routes makes a host have a table of IPv6 routes.
func routes(table string, err error) func(*Host) { return reading("/proc/net/ipv6_route", table, err) }

// healthy is a host on which nothing is missing.
func healthy() *Host {
	return &Host{
		Kernel: "6.12.1", PeekOffset: true, OpenFiles: 1 << 20, User: 1000,
		Open: func(string) error { return nil }, KVM: func() error { return nil },
		Sandbox: func() ([]string, error) { return nil, nil },
		ReadFile: func(path string) ([]byte, error) {
			if path == "/proc/net/ipv6_route" {
				return []byte(rejected + defaultRoute), nil
			}
			return []byte("MemAvailable:    4194304 kB\nHugePages_Total:    64\nHugePages_Free:     60\n"), nil
		},
		Version: func(program string) (string, error) { return program + " 7.2", nil },
		QEMU:    "qemu",
		Socket:  "/run/vring/vm0.sock", CheckSocket: func(string) error { return nil }, Mode: modes(nil),
	}
}

// modes makes directories have a mode other than 0755, and files that are not named by it be missing.
func modes(other map[string]fs.FileMode) func(string) (fs.FileMode, error) {
	return func(path string) (fs.FileMode, error) {
		mode, named := other[path]
		switch {
		case named:
			return mode, nil
		case strings.HasPrefix(path, "/etc/"):
			return 0, fs.ErrNotExist
		}
		return fs.ModeDir | 0o755, nil
	}
}

// withAppArmor makes a host confine programs, and have the given file.
func withAppArmor(enabled, file string) func(*Host) {
	return func(h *Host) {
		h.Mode = modes(map[string]fs.FileMode{file: 0o644})
		reading("/sys/module/apparmor/parameters/enabled", enabled, nil)(h)
	}
}

func TestNothingIsMissingOnAHealthyHost(t *testing.T) {
	findings := Examine(healthy())
	require.Equal(t, OK, Worst(findings))
	require.Equal(t, `ok  kernel         Linux 6.12.1, SO_PEEK_OFF for TCP
ok  open files     1048576 for each process
ok  ping           guests can ping the outside
ok  IPv6           guests can reach what the host reaches
ok  ports          forwards can use those from 1024 on
ok  socket         /run/vring/vm0.sock can be made
ok  sandbox        all walls stand
ok  QEMU           qemu 7.2
ok  KVM            a machine was made, and its processor ran
ok  memory         4096 MiB for guests; 64 huge pages reserved, 60 free
ok  /dev/net/tun   can be used
ok  CAP_NET_ADMIN  no; vring nat does not need it
                     vring tap can use a TAP device of this user. As root: ip tuntap add dev tap0 mode tap multi_queue vnet_hdr user 1000
`, Format(findings))
}

// row is one finding that is expected: parts of its texts, of which an empty advice is none.
type row struct {
	what          string
	level         Level
	found, advice string
}

// requireRow requires that one finding of a host is as expected, and that all others are those of a healthy host.
func requireRow(t *testing.T, h *Host, want row) {
	t.Helper()
	usual, seen := map[string]Finding{}, 0
	for _, f := range Examine(healthy()) {
		usual[f.What] = f
	}
	for _, f := range Examine(h) {
		if f.What != want.what {
			require.Equal(t, usual[f.What], f)
			continue
		}
		seen++
		require.Equal(t, want.level, f.Level, f.Found)
		require.Contains(t, f.Found, want.found)
		require.Contains(t, f.Advice, want.advice)
		require.Equal(t, want.advice == "", f.Advice == "", f.Advice)
	}
	require.Equal(t, 1, seen)
}

// reading makes a host have a file, or an error where it would be.
func reading(name, text string, err error) func(*Host) {
	return func(h *Host) {
		read := h.ReadFile
		h.ReadFile = func(path string) ([]byte, error) {
			if path == name {
				return []byte(text), err
			}
			return read(path)
		}
	}
}

// openFiles gives a host a limit of open files.
func openFiles(most int) func(*Host) { return func(h *Host) { h.OpenFiles = most } }

// failing makes a host have no TAP devices for a reason.
func failing(tun error) func(*Host) {
	return func(h *Host) {
		h.Open = func(path string) error { return map[string]error{"/dev/net/tun": tun}[path] }
	}
}

// closing takes a right from all but the owner of a directory above the socket.
func closing(directory string, mode fs.FileMode) func(*Host) {
	return func(h *Host) {
		h.Socket, h.Mode = "/home/me/vm/s", modes(map[string]fs.FileMode{directory: fs.ModeDir | mode})
	}
}

func TestWhatIsMissingIsToldWithAdvice(t *testing.T) {
	const ports, memory = "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/meminfo"
	for name, c := range map[string]struct {
		change func(*Host)
		want   row
	}{
		"old kernel":       {func(h *Host) { h.PeekOffset = false }, row{"kernel", Note, "Linux 6.12.1, no SO_PEEK_OFF", "Linux 6.9"}},
		"few files":        {openFiles(1023), row{"open files", Problem, "1023 for each process", "ulimit -Hn"}},
		"not that many":    {openFiles(1024), row{"open files", Note, "1024 for each process", "LimitNOFILE="}},
		"one too few":      {openFiles(17407), row{"open files", Note, "17407 for each process", "LimitNOFILE="}},
		"enough files":     {openFiles(17408), row{"open files", OK, "17408 for each process", ""}},
		"no ping":          {func(h *Host) { h.PingError = errors.New("not permitted") }, row{"ping", Note, "router only", "ping_group_range"}},
		"no IPv6":          {routes("", fs.ErrNotExist), row{"IPv6", OK, "the kernel has none", "IPv4 only"}},
		"no way out":       {routes(rejected+localRoute, nil), row{"IPv6", OK, "no default route", "--network6 off"}},
		"odd routes":       {routes("x\n"+nowhere+"\n", nil), row{"IPv6", OK, "no default route", "--network6 off"}},
		"low ports":        {reading(ports, "80\n", nil), row{"ports", OK, "those from 80 on", ""}},
		"all ports":        {reading(ports, "0\n", nil), row{"ports", OK, "can use all", ""}},
		"an unknown limit": {reading(ports, "", fs.ErrNotExist), row{"ports", OK, "those from 1024 on", ""}},
		"no QEMU": {func(h *Host) {
			h.Version = func(string) (string, error) { return "", errors.New("not found") }
		}, row{"QEMU", Note, "qemu is not installed", "apt-get install"}},
		"not in KVM's group":    {func(h *Host) { h.KVM = func() error { return fs.ErrPermission } }, row{"KVM", Note, "permission denied", "usermod -aG kvm"}},
		"no KVM":                {func(h *Host) { h.KVM = func() error { return fs.ErrNotExist } }, row{"KVM", Note, "does not exist", "firmware"}},
		"KVM that does not run": {func(h *Host) { h.KVM = func() error { return errors.New("makes no machine") } }, row{"KVM", Note, "makes no machine", "nested virtualization"}},
		"weak sandbox": {func(h *Host) {
			h.Sandbox = func() ([]string, error) { return []string{"Landlock: this kernel has none", "seccomp: none"}, nil }
		}, row{"sandbox", Note, "Landlock: this kernel has none; seccomp: none", "--sandbox=strict"}},
		"no sandbox": {func(h *Host) {
			h.Sandbox = func() ([]string, error) { return nil, errors.New("drop capabilities") }
		}, row{"sandbox", Problem, "drop capabilities", "--sandbox=off"}},
		"an untried sandbox":  {func(h *Host) { h.Sandbox = nil }, row{"sandbox", Note, "nobody has tried it", ""}},
		"no TAP devices":      {failing(fs.ErrPermission), row{"/dev/net/tun", Note, "permission denied", "chmod 0666 /dev/net/tun"}},
		"no module for them":  {failing(fs.ErrNotExist), row{"/dev/net/tun", Note, "file does not exist", "modprobe tun"}},
		"little memory":       {reading(memory, "MemAvailable: 1048575 kB", nil), row{"memory", Note, "1023 MiB for guests", "does not fit"}},
		"just enough memory":  {reading(memory, "MemAvailable: 1048576 kB", nil), row{"memory", OK, "1024 MiB for guests", ""}},
		"memory is not known": {reading(memory, "", fs.ErrPermission), row{"memory", Note, "permission denied", ""}},
		"a directory that is missing": {func(h *Host) {
			h.CheckSocket = func(path string) error { return errors.New("there is no directory above " + path) }
		}, row{"socket", Problem, "there is no directory above /run/vring/vm0.sock", "Choose another path"}},
		"a directory of one user":         {closing("/home/me/vm", 0o750), row{"socket", Note, "/home/me/vm keeps other users out", "--socket-group"}},
		"a directory that others see":     {closing("/home/me/vm", 0o754), row{"socket", Note, "/home/me/vm keeps other users out", "--socket-group"}},
		"a directory of one user above":   {closing("/home/me", 0o700), row{"socket", Note, "/home/me keeps other users out", "libvirt's system mode"}},
		"a directory that others may use": {closing("/home/me", 0o711), row{"socket", OK, "/home/me/vm/s can be made", ""}},
		"a directory that is not there": {func(h *Host) {
			h.Mode = func(path string) (fs.FileMode, error) { return 0, fs.ErrNotExist }
		}, row{"socket", Note, "file does not exist", ""}},
		"libvirt's QEMU is confined": {withAppArmor("Y\n", "/etc/apparmor.d/abstractions/libvirt-qemu"),
			row{"AppArmor", OK, "confines the QEMU that libvirt starts", `local/abstractions/libvirt-qemu: "/run/vring/vm0.sock" rw,`}},
		"rights": {func(h *Host) { h.NetAdmin = true }, row{"CAP_NET_ADMIN", OK, "yes", "safer without"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := healthy()
			c.change(h)
			requireRow(t, h, c.want)
		})
	}
}

// Root may use all ports, whatever the kernel lets others do.
func TestRootMayUseAllPorts(t *testing.T) {
	h := healthy()
	h.User = 0
	require.Contains(t, Format(Examine(h)), "ok  ports          forwards can use all\n")
}

func TestThisHostCanBeExamined(t *testing.T) {
	h := Local(filepath.Join(t.TempDir(), "s"))
	require.NotEmpty(t, h.Kernel)
	require.NotZero(t, h.OpenFiles)
	require.GreaterOrEqual(t, len(Examine(h)), 12)
	_, err := h.Version("/nonexistent/program")
	require.Error(t, err)
}

// Where AppArmor is off or not known, or there is no libvirt, nothing is said of it.
func TestAppArmorIsToldOfWhereItConfinesSomething(t *testing.T) {
	const enabled, libvirt = "/sys/module/apparmor/parameters/enabled", "/etc/apparmor.d/abstractions/libvirt-qemu"
	for name, c := range map[string]struct {
		change func(*Host)
		told   int
	}{
		"on":           {withAppArmor("Y\n", libvirt), 1},
		"off":          {withAppArmor("N\n", libvirt), 0},
		"no libvirt":   {withAppArmor("Y\n", "/etc/apparmor.d/usr.bin.man"), 0},
		"not known":    {func(h *Host) { withAppArmor("Y\n", libvirt)(h); reading(enabled, "Y\n", fs.ErrPermission)(h) }, 0},
		"not a module": {func(h *Host) { withAppArmor("Y\n", libvirt)(h); reading(enabled, "", nil)(h) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := healthy()
			c.change(h)
			require.Len(t, Examine(h), len(Examine(healthy()))+c.told)
			require.Equal(t, c.told, strings.Count(Format(Examine(h)), "AppArmor"))
		})
	}
}

// There is a KVM that makes machines and processors on hosts whose own processors cannot virtualize. Guests begin, and die there.
func TestAProcessorThatCannotVirtualizeRunsNoGuests(t *testing.T) {
	const amd = "processor\t: 0\nflags\t\t: fpu svm_lock lm svm sse2\nbugs\t\t:\n"
	for name, c := range map[string]struct {
		cpuinfo string
		want    error
	}{
		"AMD":                     {amd, nil},
		"Intel":                   {strings.Replace(amd, " svm ", " vmx ", 1), nil},
		"in a machine without it": {strings.Replace(amd, " svm ", " ", 1), errNoVirtualization},
		"no flags are told":       {"processor\t: 0\n", nil},
	} {
		require.ErrorIs(t, checkProcessor(c.cpuinfo), c.want, name)
	}
}

// A device that can be opened is not enough: /dev/null is as good as a KVM that makes no machine.
func TestADeviceThatMakesNoMachineIsNoKVM(t *testing.T) {
	err := tryKVM("/dev/null", true)
	require.ErrorContains(t, err, "/dev/null can be opened, but makes no machine: ")
	require.ErrorIs(t, tryKVM("/nonexistent/kvm", true), fs.ErrNotExist)
}
