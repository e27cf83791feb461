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
func routes(table string, err error) func(*Host) {
	return func(h *Host) {
		read := h.ReadFile
		h.ReadFile = func(path string) ([]byte, error) {
			if path == "/proc/net/ipv6_route" {
				return []byte(table), err
			}
			return read(path)
		}
	}
}

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
		read := h.ReadFile
		h.Mode = modes(map[string]fs.FileMode{file: 0o644})
		h.ReadFile = func(path string) ([]byte, error) {
			if path == "/sys/module/apparmor/parameters/enabled" {
				return []byte(enabled), nil
			}
			return read(path)
		}
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

func TestWhatIsMissingIsToldWithAdvice(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Host)
		level  Level
		found  string
		advice string
	}{
		"old kernel":    {func(h *Host) { h.PeekOffset = false }, Note, "no SO_PEEK_OFF", "Linux 6.9"},
		"few files":     {func(h *Host) { h.OpenFiles = 256 }, Problem, "256 for each process", "ulimit -Hn"},
		"not that many": {func(h *Host) { h.OpenFiles = 4096 }, Note, "4096 for each process", "LimitNOFILE="},
		"no ping":       {func(h *Host) { h.PingError = errors.New("not permitted") }, Note, "router only", "ping_group_range"},
		"no IPv6":       {routes("", fs.ErrNotExist), OK, "the kernel has none", "IPv4 only"},
		"no way out":    {routes(rejected+localRoute, nil), OK, "no default route", "--network6 off"},
		"odd routes":    {routes("x\n"+nowhere+"\n", nil), OK, "no default route", "--network6 off"},
		"no QEMU": {func(h *Host) {
			h.Version = func(string) (string, error) { return "", errors.New("not found") }
		}, Note, "qemu is not installed", "apt-get install"},
		"not in KVM's group":    {func(h *Host) { h.KVM = func() error { return fs.ErrPermission } }, Note, "permission denied", "usermod -aG kvm"},
		"no KVM":                {func(h *Host) { h.KVM = func() error { return fs.ErrNotExist } }, Note, "does not exist", "firmware"},
		"KVM that does not run": {func(h *Host) { h.KVM = func() error { return errors.New("makes no machine") } }, Note, "makes no machine", "nested virtualization"},
		"weak sandbox": {func(h *Host) {
			h.Sandbox = func() ([]string, error) { return []string{"Landlock: this kernel has none"}, nil }
		}, Note, "Landlock: this kernel has none", "--sandbox=strict"},
		"no sandbox": {func(h *Host) {
			h.Sandbox = func() ([]string, error) { return nil, errors.New("drop capabilities") }
		}, Problem, "drop capabilities", "--sandbox=off"},
		"no TAP devices": {func(h *Host) {
			h.Open = func(path string) error { return map[string]error{"/dev/net/tun": fs.ErrPermission}[path] }
		}, Note, "permission denied", "chmod 0666 /dev/net/tun"},
		"no module for them": {func(h *Host) {
			h.Open = func(path string) error { return map[string]error{"/dev/net/tun": fs.ErrNotExist}[path] }
		}, Note, "file does not exist", "modprobe tun"},
		"little memory": {func(h *Host) {
			h.ReadFile = func(string) ([]byte, error) { return []byte("MemAvailable: 1024 kB"), nil }
		}, Note, "1 MiB for guests", "does not fit"},
		"a directory that is missing": {func(h *Host) {
			h.CheckSocket = func(path string) error { return errors.New("there is no directory /run/vring") }
		}, Problem, "there is no directory /run/vring", "Choose another path"},
		"a directory of one user": {func(h *Host) {
			h.Mode = modes(map[string]fs.FileMode{"/run/vring": fs.ModeDir | 0o750})
		}, Note, "/run/vring keeps other users out", "--socket-group"},
		"a directory of one user above": {func(h *Host) {
			h.Socket, h.Mode = "/home/me/vm/s", modes(map[string]fs.FileMode{"/home/me": fs.ModeDir | 0o700})
		}, Note, "/home/me keeps other users out", "libvirt's system mode"},
		"libvirt's QEMU is confined": {withAppArmor("Y\n", "/etc/apparmor.d/abstractions/libvirt-qemu"), OK,
			"confines the QEMU that libvirt starts", `local/abstractions/libvirt-qemu: "/run/vring/vm0.sock" rw,`},
		"rights": {func(h *Host) { h.NetAdmin = true }, OK, "yes", "safer without"},
	} {
		t.Run(name, func(t *testing.T) {
			h := healthy()
			c.change(h)
			findings := Examine(h)
			require.Equal(t, c.level, Worst(findings))
			text := Format(findings)
			require.Contains(t, text, c.found)
			require.Contains(t, text, c.advice)
		})
	}
}

func TestThisHostCanBeExamined(t *testing.T) {
	h := Local(filepath.Join(t.TempDir(), "s"))
	require.NotEmpty(t, h.Kernel)
	require.NotZero(t, h.OpenFiles)
	require.GreaterOrEqual(t, len(Examine(h)), 12)
	_, err := h.Version("/nonexistent/program")
	require.Error(t, err)
}

// Where AppArmor is off, or there is no libvirt, nothing is said of it.
func TestAppArmorIsToldOfWhereItConfinesSomething(t *testing.T) {
	for _, change := range []func(*Host){
		withAppArmor("N\n", "/etc/apparmor.d/abstractions/libvirt-qemu"), withAppArmor("Y\n", "/etc/apparmor.d/usr.bin.man"),
	} {
		h := healthy()
		change(h)
		require.NotContains(t, Format(Examine(h)), "AppArmor")
	}
}

// A device that can be opened is not enough: /dev/null is as good as a KVM that makes no machine.
func TestADeviceThatMakesNoMachineIsNoKVM(t *testing.T) {
	err := tryKVM("/dev/null", true)
	require.ErrorContains(t, err, "/dev/null can be opened, but makes no machine: ")
	require.ErrorIs(t, tryKVM("/nonexistent/kvm", true), fs.ErrNotExist)
}
