package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

// releasedAt is the time of the releases of this test, in seconds since 1970.
const releasedAt = "1764484000"

// makeRelease makes for this machine what users install, and returns its directory.
func makeRelease(ctx context.Context, t *testing.T, version string) string {
	dir := t.TempDir()
	cmd := exec.CommandContext(ctx, "go", "run", "./internal/dist", "--version", version, "--arch", runtime.GOARCH, "--out", dir)
	cmd.Dir = guest.ProjectRoot()
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+releasedAt)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	check := exec.CommandContext(ctx, "sha256sum", "--check", "--strict", "SHA256SUMS")
	check.Dir = dir
	out, err = check.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, 4, bytes.Count(out, []byte(": OK")), "the program, the package, the image and the bill of materials: %s", out)
	return dir
}

// What a release is made of installs, starts and goes away again, on the oldest and on this year's Debian, under a real systemd and
// in a container.
func TestWhatIsReleasedInstallsAndStarts(t *testing.T) {
	t.Parallel()
	ctx := limitedTo(t, buildLimit)
	dir := makeRelease(ctx, t, "1.2.3")
	newer := repacked(ctx, t, filepath.Join(dir, "vring_1.2.3_"+runtime.GOARCH+".deb"), "1.2.4")
	for _, u := range both() {
		t.Run(u.String(), func(t *testing.T) { testPackage(ctx, t, u, dir, newer) })
	}
	t.Run("made again", func(t *testing.T) { testMadeAgain(ctx, t, dir) })
	t.Run("image", func(t *testing.T) { testImage(ctx, t, filepath.Join(dir, "vring_1.2.3_"+runtime.GOARCH+".oci.tar")) })
	t.Run("bill of materials", func(t *testing.T) { testBill(t, filepath.Join(dir, "vring_1.2.3_"+runtime.GOARCH+".cdx.json")) })
}

// repacked returns a package that differs from another in its version, and in that the program has a byte more.
func repacked(ctx context.Context, t *testing.T, file, version string) string {
	tree := t.TempDir()
	run := func(args ...string) {
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		require.NoError(t, err, "%s: %s", args, out)
	}
	run("dpkg-deb", "-R", file, tree)
	run("sed", "-i", "s/^Version: .*/Version: "+version+"/", filepath.Join(tree, "DEBIAN/control"))
	program, err := os.OpenFile(filepath.Join(tree, "usr/bin/vring"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = program.WriteString("\n")
	require.NoError(t, err)
	require.NoError(t, program.Close())
	newer := filepath.Join(t.TempDir(), "vring.deb")
	run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", tree, newer)
	return newer
}

// debianHost is a Debian of a test's own: what is changed there is in a directory, and nowhere else.
type debianHost struct {
	t       *testing.T
	ctx     context.Context
	lower   string // what it is made from
	changed string // what was changed, beside work and root
}

func newDebianHost(ctx context.Context, t *testing.T, u userland.Userland) *debianHost {
	lower := "/"
	if u == userland.Forky {
		etc, err := u.File("etc")
		require.NoError(t, err)
		lower = filepath.Dir(etc)
	}
	h := &debianHost{t: t, ctx: ctx, lower: lower, changed: shortDir(t)}
	for _, dir := range []string{"upper", "work", "root"} {
		require.NoError(t, os.Mkdir(filepath.Join(h.changed, dir), 0o755))
	}
	return h
}

func (h *debianHost) root() string { return filepath.Join(h.changed, "root") }

// show mounts the host's root for the calling thread, and what it starts.
func (h *debianHost) show() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Mount("overlay", h.root(), "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%[2]s/work", h.lower, h.changed))
}

// enter makes it the root of the calling thread.
func (h *debianHost) enter() error {
	if err := h.show(); err != nil {
		return err
	}
	if err := unix.Mount("proc", filepath.Join(h.root(), "proc"), "proc", 0, ""); err != nil {
		return err
	}
	if err := unix.Mount("/dev", filepath.Join(h.root(), "dev"), "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := unix.Chroot(h.root()); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// run runs a command line on the host and returns what it prints.
func (h *debianHost) run(command string) string {
	h.t.Helper()
	cmd := exec.CommandContext(h.ctx, "/bin/sh", "-ec", command)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"}
	var out bytes.Buffer
	p, err := process.Start(h.ctx, cmd, process.Options{Thread: h.enter, Output: &out})
	require.NoError(h.t, err)
	require.NoError(h.t, p.Wait(buildLimit), "%s\n%s", command, p.Output())
	return strings.TrimSpace(out.String())
}

// bring copies a file to the host.
func (h *debianHost) bring(file, to string) {
	content, err := os.ReadFile(file)
	require.NoError(h.t, err)
	h.write(to, string(content))
}

func (h *debianHost) write(to, content string) {
	to = filepath.Join(h.changed, "upper", to)
	require.NoError(h.t, os.MkdirAll(filepath.Dir(to), 0o755))
	require.NoError(h.t, os.WriteFile(to, []byte(content), 0o644))
}

func testPackage(ctx context.Context, t *testing.T, u userland.Userland, dir, newer string) {
	h := newDebianHost(ctx, t, u)
	h.bring(filepath.Join(dir, "vring_1.2.3_"+runtime.GOARCH+".deb"), "packages/old.deb")
	h.bring(newer, "packages/new.deb")
	// A host that has no passt yet can be made ready for vring in its place, too.
	hasPasst := u == userland.Forky
	before := h.run("sha256sum /usr/bin/passt* || true")

	h.run("dpkg -i /packages/old.deb")
	require.Equal(t, "vring v1.2.3", h.run("vring --version"))
	require.Equal(t, "vring", h.run("id -un vring"), "the user of the units")
	h.run("bash -n /usr/share/bash-completion/completions/vring; gzip -dc /usr/share/man/man1/vring-nat.1.gz | grep -q 'SH OPTIONS'")
	h.run("/usr/share/vring/passt-diversion add")
	require.Equal(t, "/usr/bin/passt is vring", h.run("/usr/share/vring/passt-diversion status"))
	h.run("cmp /usr/bin/vring /usr/bin/passt; dpkg --verify vring")
	if hasPasst {
		h.run("/usr/bin/passt.distrib --version | grep -q '^passt '; dpkg --verify passt")
	}
	if u == userland.Bookworm {
		testUnits(h)
	}

	h.run("dpkg -i /packages/new.deb")
	require.Equal(t, "1.2.4", h.run("dpkg-query -W -f '${Version}' vring"))
	h.run("cmp /usr/bin/vring /usr/bin/passt")

	files := h.run("dpkg-query -L vring")
	h.run("dpkg --purge vring")
	require.Equal(t, before, h.run("sha256sum /usr/bin/passt* || true"), "passt is in its place again")
	require.Empty(t, h.run("dpkg-divert --list | grep vring || true"))
	for file := range strings.Lines(files) {
		if strings.Contains(file, "vring") {
			h.run("! test -e " + strings.TrimSpace(file))
		}
	}
}

// testUnits boots the host with systemd as its first process, which starts a unit, and another from a configuration file.
func testUnits(h *debianHost) {
	h.write("etc/vring/vm0.conf", "VRING_OPTIONS=-p 2222:22\n")
	h.write("etc/vring/lab.yaml", "guests:\n  - socket-path: /run/vring/lab/vm1.sock\nsocket-mode: \"0660\"\nnat: {}\n")
	h.write("etc/systemd/system/check.service", `[Unit]
After=basic.target
Wants=basic.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/bin/sh /check
StandardOutput=file:/told
StandardError=file:/told
`)
	h.write("check", `set -ex
systemctl start vring@vm0 vring-serve@lab
systemctl is-active vring@vm0 vring-serve@lab
stat -c 'socket %U %G %a' /run/vring/vm0/guest.sock /run/vring/lab/vm1.sock
ps -o user= -p "$(systemctl show --value -p MainPID vring@vm0)"
vring ctl forward list --socket-path /run/vring/vm0/guest.sock
systemctl reload vring-serve@lab
systemctl restart vring@vm0
systemctl stop vring@vm0 vring-serve@lab
test ! -e /run/vring/vm0
systemctl --failed --plain --no-legend
echo checked
`)
	cmd := exec.CommandContext(h.ctx, "systemd-nspawn", "--directory", h.root(), "--register=no", "--keep-unit", "--private-network",
		"--machine", filepath.Base(h.changed), "--console=pipe", "--boot", "--", "--unit=check.service")
	p, err := process.Start(h.ctx, cmd, process.Options{Thread: h.show})
	require.NoError(h.t, err)
	<-p.Done()
	told, err := os.ReadFile(filepath.Join(h.changed, "upper/told"))
	require.NoError(h.t, err, "%s", p.Output())
	for _, want := range []string{
		"active\nactive\n", "socket vring vring 660\nsocket vring vring 660\n", "\nvring\n", "tcp:127.0.0.1:2222", "\nchecked\n",
	} {
		require.Contains(h.t, string(told), want)
	}
	require.NotContains(h.t, string(told), "vring@vm0.service loaded failed")
}

// testImage starts a container of the image, by the tools of OCI.
func testImage(ctx context.Context, t *testing.T, file string) {
	dir := t.TempDir()
	run := func(args ...string) []byte {
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		require.NoError(t, err, "%s: %s", args, out)
		return out
	}
	layout, bundle := filepath.Join(dir, "layout"), filepath.Join(dir, "bundle")
	require.NoError(t, os.Mkdir(layout, 0o755))
	run("tar", "-C", layout, "-xf", file)
	run("umoci", "unpack", "--image", layout+":1.2.3", bundle)
	setProcess(t, filepath.Join(bundle, "config.json"), "nat", "--socket-path", "/run/vring/vm0.sock")

	name := filepath.Base(shortDir(t))
	p, err := process.Start(ctx, exec.CommandContext(ctx, "runc", "--root", filepath.Join(dir, "state"), "run", "--bundle", bundle, name), process.Options{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(p.Output(), "msg=ready") }, soon, 20*time.Millisecond, "%s", p.Output())
	require.FileExists(t, filepath.Join(bundle, "rootfs/run/vring/vm0.sock"))
	require.NoError(t, p.Signal(unix.SIGTERM))
	require.NoError(t, p.Wait(soon), "%s", p.Output())
	require.NoFileExists(t, filepath.Join(bundle, "rootfs/run/vring/vm0.sock"))
}

// setProcess sets the arguments of a container's program, and that no terminal is wanted.
func setProcess(t *testing.T, file string, args ...string) {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var config map[string]any
	require.NoError(t, json.Unmarshal(text, &config))
	program := config["process"].(map[string]any)
	program["terminal"] = false
	program["args"] = append(program["args"].([]any)[:1], toAny(args)...)
	text, err = json.Marshal(config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o644))
}

func toAny(args []string) []any {
	var all []any
	for _, arg := range args {
		all = append(all, arg)
	}
	return all
}

// testBill checks that the bill of materials has what the program is made of.
func testBill(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var bill struct {
		Format   string `json:"bomFormat"`
		Metadata struct {
			Component struct{ Name, Version string }
		}
		Components []struct{ Name, Version string }
	}
	require.NoError(t, json.Unmarshal(text, &bill))
	require.Equal(t, "CycloneDX", bill.Format)
	require.Equal(t, "github.com/vringnet/vring", bill.Metadata.Component.Name)
	require.Equal(t, "v1.2.3", bill.Metadata.Component.Version)
	names := map[string]bool{}
	for _, c := range bill.Components {
		names[c.Name] = c.Version != ""
	}
	require.True(t, names["golang.org/x/sys"])
	require.True(t, names["std"], "Go's own library")
	require.False(t, names["github.com/stretchr/testify"], "it is of the tests only")
}

// testMadeAgain checks that the same tree makes the same bytes. The short form builds the program once and packs it twice; the long form
// does all again, in another directory and with an empty cache.
func testMadeAgain(ctx context.Context, t *testing.T, dir string) {
	again := makeRelease
	if enduring() {
		again = makeReleaseElsewhere
	}
	sums := func(dir string) string {
		text, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		require.NoError(t, err)
		return string(text)
	}
	require.Equal(t, sums(dir), sums(again(ctx, t, "1.2.3")))
}

// makeReleaseElsewhere is makeRelease in a copy of the tree, with an empty cache and other settings.
func makeReleaseElsewhere(ctx context.Context, t *testing.T, version string) string {
	tree, dir := filepath.Join(t.TempDir(), "elsewhere"), t.TempDir()
	out, err := exec.CommandContext(ctx, "cp", "-a", guest.ProjectRoot(), tree).CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.CommandContext(ctx, "go", "run", "./internal/dist", "--version", version, "--arch", runtime.GOARCH, "--out", dir)
	cmd.Dir = tree
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+releasedAt, "GOCACHE="+t.TempDir(), "TZ=Asia/Tokyo", "LC_ALL=C")
	out, err = cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return dir
}
