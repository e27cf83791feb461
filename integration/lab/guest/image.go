package guest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"

	"github.com/vringnet/vring/integration/lab/userland"
)

// Image is an initramfs: the guest's only file system.
type Image struct {
	Init    string   // static program that becomes /init
	Modules []string // kernel modules, in the order in which to load them
	Busybox string   // static busybox for the shell, or empty
	// Programs are programs of the host for the guest's "run", with the libraries that they need.
	Programs []string
	// Files are more files: the path of each in the guest, and that of the file of the host that it is a copy of.
	Files map[string]string
}

// Write writes the archive in the "newc" format that the kernel unpacks. It is not compressed: unpacking costs an
// emulated processor more than reading.
func (im Image) Write(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := cpio.NewWriter(f)
	return errors.Join(im.write(w), w.Close(), f.Close())
}

func (im Image) write(w *cpio.Writer) error {
	for _, dir := range []string{"bin", "dev", "etc", "modules", "proc", "run", "sys", "tmp"} {
		if err := w.WriteHeader(&cpio.Header{Name: dir, Mode: cpio.TypeDir | 0o755}); err != nil {
			return err
		}
	}
	if err := addFile(w, "init", im.Init, 0o755); err != nil {
		return err
	}
	for i, module := range im.Modules {
		name := fmt.Sprintf("modules/%02d-%s", i, filepath.Base(module))
		if err := addFile(w, name, module, 0o644); err != nil {
			return err
		}
	}
	if im.Busybox != "" {
		if err := addFile(w, "bin/busybox", im.Busybox, 0o755); err != nil {
			return err
		}
	}
	have := make(map[string]bool)
	if err := addPrograms(w, im.Programs, have); err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(im.Files)) {
		if err := addAt(w, path, im.Files[path], 0o644, have); err != nil {
			return err
		}
	}
	return nil
}

// addFile copies a file of the host into the archive.
func addFile(w *cpio.Writer, name, source string, perm cpio.FileMode) error {
	data, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeReg | perm, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// BuildInit builds the guest's program into a directory and returns its path.
func BuildInit(ctx context.Context, dir string) (string, error) {
	file := filepath.Join(dir, "init")
	return file, BuildProgram(ctx, file, "./integration/lab/guest/init", "CGO_ENABLED=0")
}

// BuildProgram builds a package of this project, given by its path below the root, into a file. env is added to the
// environment of the build. The package may be of any module of the project.
func BuildProgram(ctx context.Context, file, pkg string, env ...string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", file, ".")
	build.Env = append(os.Environ(), env...)
	build.Dir = filepath.Join(ProjectRoot(), pkg)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// ProjectRoot returns the directory of the product's go.mod, seen from the working directory, which may be in another
// module of the project; "." if there is none above.
func ProjectRoot() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	for at := dir; ; at = filepath.Dir(at) {
		if isProduct(filepath.Join(at, "go.mod")) {
			return at
		}
		if at == filepath.Dir(at) {
			return "."
		}
	}
}

// isProduct reports whether a file is the go.mod of the product's module.
func isProduct(path string) bool {
	const module = "module github.com/vringnet/vring"
	text, err := os.ReadFile(path)
	line, _, _ := strings.Cut(string(text), "\n")
	return err == nil && strings.TrimSpace(line) == module
}

// KernelImage returns the path of a generation's kernel for virtual machines.
func KernelImage(u userland.Userland) (string, error) { return kernelFile(u, "vmlinuz") }

// kernelFile returns a file of what the install script has fetched of a kernel for virtual machines.
func kernelFile(u userland.Userland, name string) (string, error) {
	if u == userland.Bookworm {
		return existing(filepath.Join(ProjectRoot(), ".cache", "guest-kernel", name))
	}
	return u.File(filepath.Join("guest-kernel", name))
}

// existing returns path, or an error that tells what to do.
func existing(path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w; %s", err, userland.InstallHint)
	}
	return path, nil
}

// FindTool returns the path of an installed program, or an error that tells what to do.
func FindTool(name string) (string, error) { return userland.Bookworm.Tool(name) }
