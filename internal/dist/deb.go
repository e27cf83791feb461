package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// debian has the parts of a Debian package that are not files of the product.
//
//go:embed debian
var debian embed.FS

// installed is where the package has files of the project.
var installed = map[string]string{
	"cmd/vring/systemd/vring@.service":            "usr/lib/systemd/system/vring@.service",
	"cmd/vring/systemd/vring-serve@.service":      "usr/lib/systemd/system/vring-serve@.service",
	"cmd/vring/systemd/user/vring@.service":       "usr/lib/systemd/user/vring@.service",
	"cmd/vring/systemd/user/vring-serve@.service": "usr/lib/systemd/user/vring-serve@.service",
	"cmd/vring/systemd/sysusers.conf":             "usr/lib/sysusers.d/vring.conf",
	"cmd/vring/apparmor/vring":                    "etc/apparmor.d/vring",
	"cmd/vring/apparmor/passt":                    "usr/share/vring/apparmor-passt",
	"cmd/vring/apparmor/userns":                   "usr/share/vring/apparmor-userns",
	"docs/vring.schema.json":                      "usr/share/vring/vring.schema.json",
	"docs/monitoring/grafana.json":                "usr/share/doc/vring/monitoring/grafana.json",
	"docs/monitoring/alerts.yaml":                 "usr/share/doc/vring/monitoring/alerts.yaml",
	"README.md":                                   "usr/share/doc/vring/README.md",
}

// ours is where the package has files that are beside this one.
var ours = map[string]string{
	"copyright":         "usr/share/doc/vring/copyright",
	"vhost-user.json":   "usr/share/qemu/vhost-user/50-vring.json",
	"passt-diversion":   "usr/share/vring/passt-diversion",
	"lintian-overrides": "usr/share/lintian/overrides/vring",
}

// completions is where shells look for what completes command lines of vring.
var completions = map[string]string{
	"bash": "usr/share/bash-completion/completions/vring",
	"zsh":  "usr/share/zsh/vendor-completions/_vring",
	"fish": "usr/share/fish/vendor_completions.d/vring.fish",
}

// pack makes the Debian package.
func (d *dist) pack(ctx context.Context, arch, binary string) error {
	pages, err := d.describe(ctx, arch, binary)
	if err != nil {
		return err
	}
	root := filepath.Join(d.work, "deb-"+arch)
	tree := tree{root: root}
	tree.copy(binary, "usr/bin/vring", 0o755)
	for from, to := range installed {
		tree.copy(from, to, 0o644)
	}
	for from, to := range ours {
		tree.write(to, embedded(from), 0o644)
	}
	tree.mode("usr/share/vring/passt-diversion", 0o755)
	for shell, to := range completions {
		tree.copy(filepath.Join(pages, shell), to, 0o644)
	}
	manuals, err := filepath.Glob(filepath.Join(pages, "*.1"))
	if err != nil {
		return err
	}
	for _, manual := range manuals {
		tree.compress(manual, "usr/share/man/man1/"+filepath.Base(manual)+".gz")
	}
	texts, err := licenses(ctx)
	if err != nil {
		return err
	}
	tree.write("usr/share/doc/vring/licenses.gz", compressed(texts), 0o644)
	tree.write("usr/share/doc/vring/changelog.gz", compressed(d.changelog()), 0o644)
	size := tree.size()

	for _, script := range []string{"postinst", "prerm", "postrm"} {
		tree.write("DEBIAN/"+script, embedded(script), 0o755)
	}
	tree.write("DEBIAN/conffiles", []byte("/etc/apparmor.d/vring\n"), 0o644)
	tree.write("DEBIAN/control", d.control(arch, size), 0o644)
	tree.date(d.release.time)
	if tree.err != nil {
		return tree.err
	}
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--root-owner-group", "-Zxz", "--build", root,
		d.path("vring_%s_%s.deb", d.release.debian(), arch))
	// With several threads xz makes blocks, whose number depends on the machine.
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", d.release.time.Unix()), "DPKG_DEB_THREADS_MAX=1")
	return runCommand(cmd)
}

// control is the package's description, with the size of what it installs in bytes.
func (d *dist) control(arch string, size int64) []byte {
	return fmt.Appendf(nil, string(embedded("control")), d.release.debian(), arch, (size+1023)/1024)
}

// changelog says which commit this is; what changed is told by git.
func (d *dist) changelog() []byte {
	return fmt.Appendf(nil, "vring (%s) unstable; urgency=medium\n\n  * Built from version %s.\n\n -- The vring authors <vringnet@users.noreply.github.com>  %s\n",
		d.release.debian(), d.release.version, d.release.time.Format(time.RFC1123Z))
}

// embedded returns a file of the folder debian.
func embedded(name string) []byte {
	text, err := debian.ReadFile("debian/" + name)
	if err != nil {
		panic(err) // the name is of this package
	}
	return text
}

// tree is a directory that is filled. After the first error its methods do nothing, and the error stays in err.
type tree struct {
	root string
	err  error
}

func (t *tree) write(to string, content []byte, mode fs.FileMode) {
	file := filepath.Join(t.root, to)
	if t.err == nil {
		t.err = os.MkdirAll(filepath.Dir(file), 0o755)
	}
	if t.err == nil {
		t.err = os.WriteFile(file, content, mode)
	}
	t.mode(to, mode)
}

// mode sets what the user's umask may have taken away.
func (t *tree) mode(to string, mode fs.FileMode) {
	if t.err == nil {
		t.err = os.Chmod(filepath.Join(t.root, to), mode)
	}
}

func (t *tree) copy(from, to string, mode fs.FileMode) {
	content, err := os.ReadFile(from)
	if t.err == nil {
		t.err = err
	}
	t.write(to, content, mode)
}

func (t *tree) compress(from, to string) {
	content, err := os.ReadFile(from)
	if t.err == nil {
		t.err = err
	}
	t.write(to, compressed(content), 0o644)
}

// size returns what the files take, in bytes.
func (t *tree) size() int64 {
	var sum int64
	t.walk(func(_ string, entry fs.DirEntry) error {
		info, err := entry.Info()
		if err == nil && !entry.IsDir() {
			sum += info.Size()
		}
		return err
	})
	return sum
}

// date gives a time to all that is there, and to directories the usual mode.
func (t *tree) date(at time.Time) {
	t.walk(func(path string, entry fs.DirEntry) error {
		if entry.IsDir() {
			if err := os.Chmod(path, 0o755); err != nil {
				return err
			}
		}
		return os.Chtimes(path, at, at)
	})
}

func (t *tree) walk(visit func(path string, entry fs.DirEntry) error) {
	if t.err != nil {
		return
	}
	t.err = filepath.WalkDir(t.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return visit(path, entry)
	})
}

// compressed returns content as gzip makes it, without name and time.
func compressed(content []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		panic(err) // the level is a constant
	}
	_, _ = w.Write(content) // into memory
	_ = w.Close()
	return b.Bytes()
}
