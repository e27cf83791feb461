package integration

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

// session is what an ordinary user has on a host with libvirt: a home, a folder for sockets, and libvirt's daemons of his own.
// Everything runs with his rights.
type session struct {
	t         *testing.T
	ctx       context.Context
	uid       int
	dir, home string
	run       string // $XDG_RUNTIME_DIR
	first     string // a folder of programs that is looked into before others, with a colon behind it; "" for none
}

func newSession(t *testing.T) *session {
	dir := shortDir(t)
	s := &session{t: t, ctx: limited(t), dir: dir, home: filepath.Join(dir, "home"), run: filepath.Join(dir, "run")}
	require.NoError(t, os.Chmod(dir, 0o755))
	var err error
	s.uid, err = strconv.Atoi(nobody)
	require.NoError(t, err)
	for _, own := range []string{s.home, s.run} {
		require.NoError(t, os.Mkdir(own, 0o700))
		require.NoError(t, os.Chown(own, s.uid, s.uid))
	}
	return s
}

// as returns the command line of a program that runs as the user.
func (s *session) as(program string, args ...string) []string {
	words := []string{
		"setpriv", "--reuid=" + nobody, "--regid=" + nobody, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all",
		"env", "-i", "PATH=" + s.first + "/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + s.home, "XDG_RUNTIME_DIR=" + s.run, program,
	}
	return append(words, args...)
}

// start starts a program of Debian forky as the user.
func (s *session) start(program string, args ...string) *process.Process {
	s.t.Helper()
	words := s.as(program, args...)
	p, err := process.Start(s.ctx, exec.Command(words[0], words[1:]...), process.Options{Thread: userland.Forky.Thread(nil)})
	require.NoError(s.t, err)
	return p
}

// virsh runs virsh as the page does, and returns what it prints.
func (s *session) virsh(args ...string) string {
	s.t.Helper()
	printed, err := s.tryVirsh(args...)
	require.NoError(s.t, err, "virsh %s: %s", strings.Join(args, " "), printed)
	return printed
}

// tryVirsh is virsh, which may fail.
func (s *session) tryVirsh(args ...string) (printed string, err error) {
	s.t.Helper()
	p := s.start("virsh", append([]string{"-c", "qemu:///session"}, args...)...)
	err = p.Wait(testLimit)
	return strings.TrimSpace(p.Output()), err
}

// requireSharedMemory checks that libvirt refuses a domain whose memory is not shared, in the words of the page.
func (s *session) requireSharedMemory(description string) {
	s.t.Helper()
	text, err := os.ReadFile(description)
	require.NoError(s.t, err)
	file := filepath.Join(s.dir, "private.xml")
	require.NoError(s.t, os.WriteFile(file, []byte(strings.Replace(string(text), "<access mode='shared'/>", "", 1)), 0o644))
	printed, err := s.tryVirsh("define", file)
	require.Error(s.t, err)
	const refusal = "'interface' requires shared memory"
	require.Contains(s.t, printed, refusal)
	require.Contains(s.t, readPage(s.t, "libvirt.md"), "`"+refusal+"`")
}

// serveLibvirt starts libvirt's daemons, which virsh would start by itself. These end with the test.
func (s *session) serveLibvirt() {
	s.t.Helper()
	for daemon, socket := range map[string]string{"virtlogd": "virtlogd-sock", "libvirtd": "libvirt-sock"} {
		p := s.start(daemon)
		s.t.Cleanup(func() {
			require.NoError(s.t, p.Kill())
			if s.t.Failed() {
				s.t.Logf("%s printed:\n%s", daemon, p.Output())
			}
		})
		require.Eventually(s.t, func() bool { return exists(filepath.Join(s.run, "libvirt", socket)) }, soon, tick, "%s", p.Output())
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// lend copies a file to where the user can read it.
func (s *session) lend(file string) (path string) {
	s.t.Helper()
	path = filepath.Join(s.dir, filepath.Base(file))
	in, err := os.Open(file)
	require.NoError(s.t, err)
	defer in.Close()
	info, err := in.Stat()
	require.NoError(s.t, err)
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode()|0o444)
	require.NoError(s.t, err)
	_, err = io.Copy(out, in)
	require.NoError(s.t, err)
	require.NoError(s.t, out.Close())
	return path
}

// startVring starts vring as the user, on a socket where the page has it.
func (s *session) startVring(socket string, args ...string) *daemon {
	s.t.Helper()
	require.NoError(s.t, os.MkdirAll(filepath.Dir(socket), 0o755))
	require.NoError(s.t, os.Chown(filepath.Dir(socket), s.uid, s.uid))
	words := s.as(s.lend(built.vring))
	d := &daemon{t: s.t, Socket: socket, emulator: words, args: append([]string{"nat", "--socket-path", socket}, args...)}
	d.start()
	s.t.Cleanup(d.terminate)
	return d
}

// describe writes the page's domain for the user's session on a host without KVM, with a kernel and our guest for the disk. Its emulated
// processor must have random numbers, for a guest that has nothing else to do.
func (s *session) describe(socket, kernel, initrd string) (file string) {
	s.t.Helper()
	page, text := readPage(s.t, "libvirt.md"), domainOfThePage(s.t)
	replace := func(old *regexp.Regexp, by string) {
		require.Len(s.t, old.FindAllString(text, -1), 1, "%v", old)
		text = old.ReplaceAllLiteralString(text, by)
	}
	_, ofUser, found := strings.Cut(page, "# Session mode")
	require.True(s.t, found)
	source := regexp.MustCompile(`<source type='unix'.*>`)
	replace(source, strings.Replace(source.FindString(ofUser), "/run/user/1000/vring/vm0/guest.sock", socket, 1))
	require.Contains(s.t, text, socket)
	require.Contains(s.t, page, "Write `<domain type='qemu'>`")
	replace(regexp.MustCompile(`<domain type='kvm'>`), "<domain type='qemu'>")
	replace(regexp.MustCompile(`(?s)<disk .*</disk>`), "")
	replace(regexp.MustCompile(`</features>`), "</features><cpu mode='maximum'/>")
	replace(regexp.MustCompile(`</os>`), fmt.Sprintf("<kernel>%s</kernel><initrd>%s</initrd><cmdline>console=ttyS0 quiet loglevel=1 panic=-1</cmdline></os>",
		kernel, initrd))
	file = filepath.Join(s.dir, "vm0.xml")
	require.NoError(s.t, os.WriteFile(file, []byte(text), 0o644))
	return file
}

// boot starts the domain and returns its console. It is paused until somebody listens there, who would miss its first words.
func (s *session) boot(domain string) *guest.Console {
	s.t.Helper()
	s.virsh("start", "--paused", domain)
	s.t.Cleanup(func() { s.endQEMU(domain) })
	terminal, err := os.OpenFile(s.virsh("ttyconsole", domain), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = terminal.Close() })
	settings, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	require.NoError(s.t, err)
	settings.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	settings.Iflag &^= unix.ICRNL
	require.NoError(s.t, unix.IoctlSetTermios(int(terminal.Fd()), unix.TCSETS, settings))
	var heard process.Tail
	console := guest.NewConsole(io.TeeReader(terminal, &heard), terminal, heard.String)
	s.virsh("resume", domain)
	_, err = console.WaitBoot(s.ctx)
	require.NoError(s.t, err, heard.String())
	return console
}

// endQEMU ends a QEMU that libvirt has left running: it is no child of ours.
func (s *session) endQEMU(domain string) {
	text, err := os.ReadFile(filepath.Join(s.run, "libvirt", "qemu", "run", domain+".pid"))
	if err != nil {
		return // it has ended
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(s.t, err)
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err == nil && strings.HasPrefix(filepath.Base(program), "qemu-system-") {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// runs runs a program of Debian forky as root, and returns what it prints.
func (s *session) runs(name string, args ...string) string {
	s.t.Helper()
	p, err := process.Start(s.ctx, exec.Command(name, args...), process.Options{Thread: userland.Forky.Thread(nil)})
	require.NoError(s.t, err)
	require.NoError(s.t, p.Wait(testLimit), "%s: %s", name, p.Output())
	return p.Output()
}

// docs/libvirt.md, session mode: a user without any right defines the page's domain, starts it on a vring of his own, and logs in to the
// guest through a forward, and without one.
func TestAUsersLibvirtStartsAGuestOnVring(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	key, socket, port := filepath.Join(s.dir, "key"), filepath.Join(s.run, "vring", "vm0", "guest.sock"), strconv.Itoa(freePort(t))
	s.runs("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	vring := s.startVring(socket, "-p", port+":22")
	s.serveLibvirt()
	kernel, err := guest.KernelImage(userland.Bookworm)
	require.NoError(t, err)
	description := s.describe(socket, s.lend(kernel), s.sshGuest(key+".pub"))
	s.requireSharedMemory(description)
	s.virsh("define", description)
	console := s.boot("vm0")

	var lease proto.Lease
	require.NoError(t, console.Do(s.ctx, &lease, "dhcp", card))
	require.Equal(t, "10.0.2.15/24", lease.Address)
	require.NoError(t, console.Do(s.ctx, nil, "run", "busybox", "--install", "-s", "/bin"))
	require.NoError(t, console.Do(s.ctx, nil, "run", "dropbear", "-R", "-s", "-p", "22"))
	for way, to := range map[string][]string{
		"a forward":         {"-p", port, "root@127.0.0.1"},
		"vring ctl connect": {"-o", "ProxyCommand=" + built.vring + " ctl connect --control " + socket + ".ctl %h %p", "root@10.0.2.15"},
	} {
		login := append([]string{"-F", "none", "-i", key, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"}, to...)
		require.Contains(t, s.runs("ssh", append(login, "ifconfig "+card)...), "inet addr:10.0.2.15", "the login by %s leads to the guest", way)
	}
	s.requireNoRights(vring.Process.PID())
	s.virsh("destroy", "vm0")
	vring.waitOutput(`msg="front end disconnected"`)
}

// requireNoRights checks that a process is the user's, without any capability.
func (s *session) requireNoRights(pid int) {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(s.t, err)
	require.Regexp(s.t, fmt.Sprintf(`(?m)^Uid:\s+%d\s`, s.uid), string(status))
	require.Regexp(s.t, `(?m)^CapPrm:\s+0+$`, string(status))
}

// sshGuest makes the image of a guest with an SSH server that lets the owner of a key in.
func (s *session) sshGuest(publicKey string) (file string) {
	s.t.Helper()
	modules, err := guest.KernelModules(userland.Bookworm)
	require.NoError(s.t, err)
	busybox, err := guest.FindTool("busybox")
	require.NoError(s.t, err)
	server, err := guest.FindTool("dropbear")
	require.NoError(s.t, err)
	image := guest.Image{
		Init: built.init, Modules: modules, Busybox: busybox, Programs: []string{server},
		Files: map[string]string{"/root/.ssh/authorized_keys": publicKey},
	}
	for path, text := range map[string]string{
		"/etc/passwd": "root:x:0:0::/root:/bin/sh\n", "/etc/shells": "/bin/sh\n", "/etc/dropbear/place": "for the keys that -R makes\n",
	} {
		source := filepath.Join(s.dir, filepath.Base(path))
		require.NoError(s.t, os.WriteFile(source, []byte(text), 0o644))
		image.Files[path] = source
	}
	file = filepath.Join(s.dir, "guest.cpio")
	require.NoError(s.t, image.Write(file))
	return file
}
