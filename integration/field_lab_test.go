package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/uml"
	"github.com/vringnet/vring/integration/lab/userland"
)

// The cable between the host of a field and the world.
const (
	fieldWire   = "wire0"
	fieldHost   = "198.18.7.1"
	fieldWorld  = "198.18.7.2"
	fieldHost6  = "2001:db8:7::1"
	fieldWorld6 = "2001:db8:7::2"
	fieldDomain = "field.example"
	fieldSystem = "forky" // the tree in the guest with the programs of Debian forky
)

// fieldLimit ends what hangs. A machine that is busy takes minutes for all clients, and an hour in their long form.
const fieldLimit = 20 * time.Minute

// field is a guest on the programs of a whole system, which the host has, too: a script of a shell runs here and there, and
// what it prints can be compared. Services are in the world, which both reach at the same addresses.
type field struct {
	t           *testing.T
	ctx         context.Context
	host, world *host
	dir         string // the same folder on the host, in the world and in the guest
	vring       *daemon
	guest       *testGuest
}

// newField makes host and world, connected by a cable; vring and guest are yet to be started.
func newField(t *testing.T) *field {
	f := &field{t: t, ctx: limitedTo(t, fieldLimit), host: newHost(t), world: newHost(t), dir: shortDir(t)}
	require.NoError(t, os.Chmod(f.dir, 0o755)) // services that give up their rights read it
	f.host.wire(fieldWire, f.world)
	f.host.run("ip address add "+fieldHost+"/24 dev "+fieldWire, "ip address add "+fieldHost6+"/64 dev "+fieldWire+" nodad",
		"ip route add default via "+fieldWorld, "ip route add default via "+fieldWorld6)
	f.world.run("ip address add "+fieldWorld+"/24 dev "+fieldWire, "ip address add "+fieldWorld6+"/64 dev "+fieldWire+" nodad")
	require.NoError(t, f.host.Sysctl("net.ipv4.ping_group_range", "0 2147483647"))
	f.write("resolv.conf", "nameserver "+fieldWorld+"\nsearch "+fieldDomain+"\n")
	return f
}

// write writes a file to the folder, and returns its path.
func (f *field) write(name, text string) (path string) {
	f.t.Helper()
	path = filepath.Join(f.dir, name)
	require.NoError(f.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(f.t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

// start starts vring on the host, and boots a guest on it.
func (f *field) start(args ...string) {
	f.t.Helper()
	f.vring = startVringWith(f.t, process.Options{Thread: f.host.Enter}, "nat",
		append([]string{"--dns", fieldWorld, "--search", fieldDomain}, args...)...)
	modules, err := guest.UMLModules(userland.Forky, "overlay", "tun", "veth")
	require.NoError(f.t, err)
	initrd := filepath.Join(f.dir, "initrd")
	require.NoError(f.t, guest.Image{Init: built.init, Modules: modules}.Write(initrd))
	f.guest = startUML(f.ctx, f.t, uml.Options{Userland: userland.Forky, Initrd: initrd, Socket: f.vring.Socket})
	_, err = f.guest.WaitBoot(f.ctx)
	require.NoError(f.t, err)
	f.plant(fieldSystem, userland.Forky)
}

// configure gives the guest its addresses and its resolver.
func (f *field) configure() {
	f.t.Helper()
	f.do(nil, "dhcp", card)
	f.do(nil, "slaac", card)
	out := f.inGuest(f.write("resolve", "printf 'nameserver 10.0.2.3\nsearch "+fieldDomain+"\n' >/etc/resolv.conf"))
	require.Zero(f.t, out.Status, out.Output)
}

// plant shows a generation's programs to the guest.
func (f *field) plant(name string, u userland.Userland) {
	f.t.Helper()
	root, err := u.File("/")
	require.NoError(f.t, err)
	f.do(nil, "tree", name, root, f.dir)
}

// do runs a command in the guest.
func (f *field) do(result any, command string, args ...any) {
	f.t.Helper()
	require.NoError(f.t, f.guest.Do(f.ctx, result, command, args...))
}

// inGuest runs a script in the guest.
func (f *field) inGuest(path string, args ...string) proto.Outcome {
	f.t.Helper()
	return f.startInGuest(path, args...)()
}

// startInGuest begins to run a script in the guest. What it returns waits for the end.
func (f *field) startInGuest(path string, args ...string) func() proto.Outcome {
	words := []any{fieldSystem, path}
	for _, arg := range args {
		words = append(words, arg)
	}
	call := f.guest.Start("script", words...)
	return func() (out proto.Outcome) {
		f.t.Helper()
		require.NoError(f.t, call.Wait(f.ctx, &out))
		return out
	}
}

// onHost runs a script on the host, with the programs that the guest has.
func (f *field) onHost(path string, args ...string) proto.Outcome {
	f.t.Helper()
	return f.startOnHost(path, args...)()
}

// startOnHost begins to run a script on the host. What it returns waits for the end.
func (f *field) startOnHost(path string, args ...string) func() proto.Outcome {
	f.t.Helper()
	cmd := exec.Command("/bin/sh", append([]string{path}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=dumb"}
	cmd.Dir = "/"
	p, err := process.Start(f.ctx, cmd, process.Options{Thread: f.as(f.host)})
	require.NoError(f.t, err)
	return func() proto.Outcome {
		<-p.Done()
		return proto.Outcome{Status: cmd.ProcessState.ExitCode(), Output: p.Output()}
	}
}

// serve starts a program of Debian forky in the world. It ends with the test.
func (f *field) serve(name string, args ...string) *process.Process {
	f.t.Helper()
	path, err := userland.Forky.Tool(name)
	require.NoError(f.t, err)
	p, err := process.Start(f.ctx, exec.Command(path, args...), process.Options{Thread: f.as(f.world)})
	require.NoError(f.t, err)
	f.t.Cleanup(func() {
		require.NoError(f.t, p.Kill())
		if f.t.Failed() {
			f.t.Logf("%s printed at last:\n%s", name, lastOf(p.Output()))
		}
	})
	return p
}

// as returns what makes a thread one of a namespace with Debian forky's programs and with the field's resolver. Nobody's settings are
// in its /root, and services find in its /run the folders that they want to be there.
func (f *field) as(h *host) func() error {
	enter := userland.Forky.Thread(h.Enter)
	return func() error {
		if err := enter(); err != nil {
			return err
		}
		for _, dir := range []string{"/root", "/run"} {
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
				return fmt.Errorf("mount %s: %w", dir, err)
			}
		}
		for _, dir := range []string{"/run/sshd", "/run/vsftpd/empty"} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		return os.NewSyscallError("mount resolv.conf",
			unix.Mount(filepath.Join(f.dir, "resolv.conf"), "/etc/resolv.conf", "", unix.MS_BIND, ""))
	}
}
