package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

// A block is a fenced block of a page: for a shell on the host, or for one in the guest.
type block struct {
	inGuest bool
	lines   []string // commands, without comments
}

var fence = regexp.MustCompile("(?ms)^```sh( guest)?\n(.*?)^```$")

// blocksOf returns the commands of a section of a page in docs/. The section ends with the next heading.
func blocksOf(t *testing.T, page, heading string) []block {
	t.Helper()
	_, section, found := strings.Cut(readPage(t, page), "# "+heading+"\n")
	require.True(t, found, "%s has no section %q", page, heading)
	section, _, _ = strings.Cut(section, "\n#")
	var blocks []block
	for _, m := range fence.FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, block{inGuest: m[1] != "", lines: commandLines(m[2])})
	}
	require.NotEmpty(t, blocks, "%s has no commands in %q", page, heading)
	return blocks
}

// commandLines returns the command lines of a text, joined where they end with a backslash.
func commandLines(text string) []string {
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		line, _, _ = strings.Cut(line, "#")
		if words := strings.Fields(line); len(words) > 0 {
			lines = append(lines, strings.Join(words, " "))
		}
	}
	return lines
}

// linesOf returns the lines of all blocks for the host, or for the guest, that begin with one of the words.
func linesOf(blocks []block, inGuest bool, words ...string) []string {
	var lines []string
	for _, b := range blocks {
		for _, line := range b.lines {
			if word, _, _ := strings.Cut(line, " "); b.inGuest == inGuest && slices.Contains(words, word) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// A reader is somebody who types what a page says on a host of his own. His sockets are in dir instead of /tmp.
type reader struct {
	*host
	dir     string
	daemons []*daemon
}

func newReader(t *testing.T) *reader {
	return &reader{host: newHost(t), dir: shortDir(t)}
}

// types types lines. A vring goes on until the end of the test.
func (r *reader) types(lines ...string) {
	r.t.Helper()
	for _, line := range lines {
		line = strings.ReplaceAll(line, "/tmp/", r.dir+"/")
		args, isVring := strings.CutPrefix(line, "vring ")
		if !isVring {
			r.run(line)
			continue
		}
		d := &daemon{t: r.t, args: strings.Fields(args), options: process.Options{Thread: r.Enter}}
		d.Socket = d.args[slices.Index(d.args, "--socket-path")+1]
		d.start()
		r.t.Cleanup(d.terminate)
		r.daemons = append(r.daemons, d)
	}
}

// boots runs QEMU by a page's command line, with what the page says of hosts without KVM, and with our guest for the disk. Its
// emulated processor must have random numbers, for a guest that has nothing else to do.
func (r *reader) boots(ctx context.Context, u userland.Userland, line string) *testGuest {
	r.t.Helper()
	kernel, err := guest.KernelImage(u)
	require.NoError(r.t, err)
	line = strings.ReplaceAll(line, "/tmp/", r.dir+"/")
	line = strings.Replace(line, "-accel kvm", "-accel tcg", 1)
	if u == userland.Bookworm {
		line = strings.Replace(line, "-device virtio-net-pci,", "-device virtio-net-pci,vectors=0,", 1)
	}
	line = regexp.MustCompile(`-drive \S+`).ReplaceAllString(line, "-cpu max -nographic -nodefaults -serial mon:stdio -kernel "+kernel+" -initrd "+
		built.image(u, false, true))
	require.Contains(r.t, line, "-initrd")
	args := append(strings.Fields(line), "-append", "console=ttyS0 quiet loglevel=1 panic=-1")
	program, err := u.Tool(args[0])
	require.NoError(r.t, err)
	p, in, out, err := process.StartInteractive(ctx, exec.Command(program, args[1:]...), process.Options{Thread: u.Thread(nil)})
	require.NoError(r.t, err)
	return endWithTest(r.t, &testGuest{Process: p, Console: guest.NewConsole(out, in, p.Output)})
}

// docs/quickstart-qemu.md: the two commands, with the words that both generations of QEMU know.
func TestTheQuickStartWorksAsItIsWritten(t *testing.T) {
	t.Parallel()
	onEachQEMU(t, func(t *testing.T, kind kind) {
		ctx := limited(t)
		r := newReader(t)
		blocks := blocksOf(t, "quickstart-qemu.md", "Two commands")
		r.types(linesOf(blocks, false, "vring")...)
		for _, line := range linesOf(blocks, false, "qemu-system-x86_64") {
			g := r.boots(ctx, kind.userland, line)
			_, err := g.WaitBoot(ctx)
			require.NoError(t, err)
			var lease proto.Lease
			require.NoError(t, g.Do(ctx, &lease, "dhcp", card))
			require.Equal(t, "10.0.2.15/24", lease.Address)
		}
		r.daemons[0].waitOutput(`msg="guest driver is up"`)
	})
}

// docs/lab.md, but for the part across two hosts. Guest b is User-mode Linux, which is there sooner.
func TestTheLabPageWorksAsItIsWritten(t *testing.T) {
	t.Run("two guests, an uplink and a VLAN", func(t *testing.T) {
		ctx := limited(t)
		r := newReader(t)
		r.wire("eth1", newHost(t))
		blocks := blocksOf(t, "lab.md", "Two guests, one bridge, an uplink")
		r.types(linesOf(blocks, false, "vring", "ip")...)
		require.Len(t, r.daemons, 2)
		commands := linesOf(blocks, false, "qemu-system-x86_64")
		require.Len(t, commands, 1)
		a := &station{testGuest: r.boots(ctx, userland.Bookworm, commands[0]), t: t, ctx: ctx, vring: r.daemons[0], number: 1}
		b := newUMLStation(ctx, t, userland.Bookworm, r.daemons[1], 2).boot()
		_, err := a.WaitBoot(ctx)
		require.NoError(t, err)
		for _, line := range linesOf(blocks, true, "ip") {
			if strings.HasPrefix(line, "ip -6 address add") {
				line += " nodad" // the address can be used at once
			}
			a.run(line)
		}
		a.mac = "52:54:00:00:00:01" // the page's
		a.waitPing(b.v4())
		a.requireReach(b)
		b.requireReach(a)
		state, found := r.link("eth1")
		require.True(t, found)
		require.Equal(t, "br0", state.Master)

		tagged := linesOf(blocksOf(t, "lab.md", "VLANs"), true, "ip")
		a.run(tagged...)
		for _, line := range tagged {
			b.run(strings.Replace(line, "198.51.100.1", "198.51.100.2", 1))
		}
		a.waitPing("198.51.100.2")
	})
	t.Run("several queues", func(t *testing.T) {
		r := newReader(t)
		r.types(linesOf(blocksOf(t, "lab.md", "Several queues"), false, "vring")...)
		require.Contains(t, r.daemons[0].Output(), "queues=2")
	})
	t.Run("devices of an ordinary user", func(t *testing.T) {
		r := newReader(t)
		for _, line := range linesOf(blocksOf(t, "lab.md", "Without rights"), false, "ip") {
			r.types(strings.Replace(line, "alice", "nobody", 1))
		}
		r.types("vring tap --socket-path /tmp/a.sock --tap tap0")
		state, found := r.link("tap0")
		require.True(t, found)
		require.Equal(t, "br0", state.Master)
	})
}

// The page's VLANs of ports, on a kernel that has them; on another one vring says so, and the page quotes it.
func TestTheLabPagesVLANsWorkOrAreRefusedWithTheReason(t *testing.T) {
	r := newReader(t)
	r.wire("eth1", newHost(t))
	lines := linesOf(blocksOf(t, "lab.md", "VLANs"), false, "vring", "bridge")
	require.Len(t, lines, 3)
	if _, err := r.Run("ip link add probe type bridge vlan_filtering 1"); err == nil {
		r.types(lines[:2]...)
		r.types("ip link set eth1 up master br0", lines[2])
		require.Contains(t, r.run("bridge vlan show dev tap0"), "5 PVID Egress Untagged")
		return
	}
	args := strings.Fields(strings.ReplaceAll(strings.TrimPrefix(lines[0], "vring "), "/tmp/", r.dir+"/"))
	p, err := process.Start(limited(t), exec.Command(built.vring, args...), process.Options{Thread: r.Enter})
	require.NoError(t, err)
	require.Error(t, p.Wait(soon))
	require.Contains(t, p.Output(), "CONFIG_BRIDGE_VLAN_FILTERING")
	require.Contains(t, strings.ToLower(p.Output()), "operation not supported")
}

// docs/uml.md and the README's command, with a root file system of busybox alone. All that its shell types are the page's lines for
// the guest; then it serves a page of its own.
func TestTheUserModeLinuxPageWorksAsItIsWritten(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	start := blocksOf(t, "uml.md", "Start it")
	root := filepath.Join(r.dir, "root")
	r.furnish(root, append(linesOf(start, true, "modprobe", "ip", "udhcpc"),
		"mkdir -p /www", "echo served by the guest >/www/index.html", "httpd -f -h /www")...)
	modules, err := userland.Forky.File("/usr/lib/uml/modules")
	require.NoError(t, err)
	for _, line := range linesOf(blocksOf(t, "uml.md", "The driver of the network card"), false, "cp", "mke2fs") {
		line = regexp.MustCompile(`\broot`).ReplaceAllLiteralString(line, root) // the folder, and the image beside it
		r.run(strings.Replace(line, "/usr/lib/uml/modules", modules, 1))        // which may be below a root, too
	}
	r.types(linesOf(start, false, "vring")...)
	uml := r.bootsUML(linesOf(start, false, "linux.uml"))
	require.Eventually(t, func() bool {
		page, err := r.Run("busybox wget -q -O - http://127.0.0.1:8080/")
		return err == nil && page == "served by the guest\n"
	}, soon, 100*time.Millisecond)
	require.Contains(t, uml.Output(), "lease of 10.0.2.15 obtained from 10.0.2.2")
	r.daemons[0].waitOutput(`msg="guest receives now"`)
}

// bootsUML runs User-mode Linux by the page's command line, which is also the README's, in the reader's folder.
func (r *reader) bootsUML(lines []string) *testGuest {
	r.t.Helper()
	require.Len(r.t, lines, 1)
	readme, err := os.ReadFile(filepath.Join(guest.ProjectRoot(), "README.md"))
	require.NoError(r.t, err)
	require.Contains(r.t, string(readme), "`"+lines[0]+"`")
	words := strings.Fields(strings.ReplaceAll(lines[0], "/tmp/", r.dir+"/"))
	program, err := userland.Forky.Tool(words[0])
	require.NoError(r.t, err)
	cmd := exec.Command(program, words[1:]...)
	cmd.Dir, cmd.Env = r.dir, append(os.Environ(), "HOME="+r.dir) // it keeps a folder in its user's home
	p, err := process.Start(limited(r.t), cmd, process.Options{Thread: userland.Forky.Thread(nil)})
	require.NoError(r.t, err)
	return endWithTest(r.t, &testGuest{Process: p})
}

// furnish makes a folder that is the root file system of a small Linux system: its first program is busybox's, which runs the lines.
func (r *reader) furnish(root string, lines ...string) {
	r.t.Helper()
	for _, dir := range []string{"bin", "dev", "etc/udhcpc", "lib/modules", "proc", "sbin", "sys", "usr/bin", "usr/sbin"} {
		require.NoError(r.t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	busybox, err := guest.FindTool("busybox")
	require.NoError(r.t, err)
	program, err := os.ReadFile(busybox)
	require.NoError(r.t, err)
	require.NoError(r.t, os.WriteFile(filepath.Join(root, "bin", "busybox"), program, 0o755))
	require.NoError(r.t, os.Symlink("../bin/busybox", filepath.Join(root, "sbin", "init")))
	for _, name := range []string{"sh", "mount"} {
		require.NoError(r.t, os.Symlink("busybox", filepath.Join(root, "bin", name)))
	}
	for name, script := range map[string][]string{
		"rc": append([]string{"mount -t proc proc /proc", "mount -t sysfs sysfs /sys", "mount -o remount,rw /", "busybox --install -s"}, lines...),
		// What the client does with a lease is the system's business.
		"udhcpc/default.script": {`[ "$1" != bound ] || ip address add $ip/$mask dev $interface`, `[ "$1" != bound ] || ip route add default via $router`},
	} {
		require.NoError(r.t, os.WriteFile(filepath.Join(root, "etc", name), []byte("#!/bin/sh\n"+strings.Join(script, "\n")+"\n"), 0o755))
	}
	require.NoError(r.t, os.WriteFile(filepath.Join(root, "etc", "inittab"), []byte("::sysinit:/etc/rc\n"), 0o644))
}
