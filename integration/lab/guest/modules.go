package guest

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/vringnet/vring/integration/lab/userland"
)

// KernelModules returns the modules that KernelImage needs to drive a virtio network card, and more by their names, each
// after those that it needs itself.
func KernelModules(u userland.Userland, more ...string) ([]string, error) {
	dir, err := kernelFile(u, "modules")
	if err != nil {
		return nil, err
	}
	tree, err := findModules(dir)
	if err != nil {
		return nil, err
	}
	const bus = "virtio_pci" // newer kernels have it built in
	if _, ok := tree[bus]; ok {
		more = append([]string{bus}, more...)
	}
	return tree.inOrder(append(more, "virtio_net"))
}

// UMLModules is KernelModules for a generation's User-mode Linux.
func UMLModules(u userland.Userland, more ...string) ([]string, error) {
	dir, err := u.File("/usr/lib/uml/modules")
	if err != nil {
		return nil, err
	}
	tree, err := findModules(dir)
	if err != nil {
		return nil, err
	}
	return tree.inOrder(append(more, "virtio_net"))
}

// IPv6Modules are the names of what a generation's User-mode Linux needs for IPv6. Other kernels have it built in.
func IPv6Modules(u userland.Userland) []string {
	if u == userland.Bookworm {
		return []string{"ipv6"}
	}
	return nil
}

// moduleTree is the files of modules by their names.
type moduleTree map[string]string

// findModules returns the modules below a directory.
func findModules(dir string) (moduleTree, error) {
	found := make(moduleTree)
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			found[moduleName(name)] = path
		}
		return err
	})
	return found, err
}

// inOrder returns the files of the named modules, each after those that it needs.
func (m moduleTree) inOrder(names []string) (order []string, err error) {
	placed := make(map[string]bool)
	for _, name := range names {
		if order, err = m.place(order, name, placed); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// moduleName returns the name by which the kernel knows the module of a file.
func moduleName(file string) string { return strings.ReplaceAll(file, "-", "_") }

// place adds a module to an order, after those that it needs, unless it has its place already.
func (m moduleTree) place(order []string, name string, placed map[string]bool) ([]string, error) {
	name = moduleName(name)
	if placed[name] {
		return order, nil
	}
	placed[name] = true
	file, ok := m[name]
	if !ok {
		return nil, fmt.Errorf("no module %s", name)
	}
	needed, err := neededBy(file)
	if err != nil {
		return nil, err
	}
	for _, other := range needed {
		if order, err = m.place(order, other, placed); err != nil {
			return nil, fmt.Errorf("%s needs: %w", name, err)
		}
	}
	return append(order, file), nil
}

// neededBy returns the names of the modules that a module needs, as they stand in its section ".modinfo": a list of
// NAME=VALUE that end with zero bytes.
func neededBy(file string) ([]string, error) {
	module, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	const field = "\x00depends="
	at := bytes.Index(module, []byte(field))
	if at < 0 {
		return nil, fmt.Errorf("%s does not say what it needs: is it a module, and not compressed?", file)
	}
	list, _, _ := bytes.Cut(module[at+len(field):], []byte{0})
	if len(list) == 0 {
		return nil, nil
	}
	return strings.Split(string(list), ","), nil
}
