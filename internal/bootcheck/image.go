package bootcheck

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"
)

// neededModules drive the card, where the kernel does not have them built in.
var neededModules = []string{"virtio_pci", "virtio_net"}

// writeImage writes an initramfs with a program as /vring and the modules that the card needs, of a tree such as /lib/modules/6.1.0.
func writeImage(file, program, modules string) error {
	order, err := modulesInOrder(modules, neededModules)
	if err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := cpio.NewWriter(f)
	return errors.Join(fill(w, program, order), w.Close(), f.Close())
}

func fill(w *cpio.Writer, program string, modules []string) error {
	for _, dir := range []string{"dev", "proc", "sys", "modules"} {
		if err := w.WriteHeader(&cpio.Header{Name: dir, Mode: cpio.TypeDir | 0o755}); err != nil {
			return err
		}
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	if err := put(w, "vring", 0o755, content); err != nil {
		return err
	}
	for i, module := range modules {
		content, err := unpacked(module)
		if err != nil {
			return err
		}
		name, _, _ := strings.Cut(filepath.Base(module), ".ko")
		if err := put(w, fmt.Sprintf("modules/%02d-%s.ko", i, name), 0o644, content); err != nil {
			return err
		}
	}
	return nil
}

func put(w *cpio.Writer, name string, mode cpio.FileMode, content []byte) error {
	if err := w.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeReg | mode, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// unpackers are the programs that unpack modules, by the ends of files' names.
var unpackers = map[string]string{".xz": "xz", ".zst": "zstd"}

// unpacked returns a module as the kernel wants it.
func unpacked(file string) ([]byte, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	end := filepath.Ext(file)
	if end == ".gz" {
		r, err := gzip.NewReader(bytes.NewReader(content))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	}
	program, packed := unpackers[end]
	if !packed {
		return content, nil
	}
	cmd := exec.Command(program, "--decompress", "--stdout")
	cmd.Stdin = bytes.NewReader(content)
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("%s is packed, and there is no program %s: install it", file, program)
	}
	return out, err
}

// modulesInOrder returns the files of modules and of what they need, each after what it needs itself. Those that are built in have none.
func modulesInOrder(tree string, names []string) ([]string, error) {
	table, err := os.ReadFile(filepath.Join(tree, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("%w; name the directory with the kernel's modules by --modules, such as /lib/modules/$(uname -r)", err)
	}
	builtin, err := os.ReadFile(filepath.Join(tree, "modules.builtin"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var order []string
	for _, name := range names {
		files, found := needs(string(table), name)
		if !found && !strings.Contains(string(builtin), "/"+name+".ko") {
			return nil, fmt.Errorf("%s has no module %s, which the guest's network card needs", tree, name)
		}
		for _, file := range slices.Backward(files) {
			if path := filepath.Join(tree, file); !slices.Contains(order, path) {
				order = append(order, path)
			}
		}
	}
	return order, nil
}

// needs returns a module's file and those that it needs, which modules.dep (see depmod(8)) lists in the order in which to unload them.
func needs(table, name string) (files []string, found bool) {
	for line := range strings.Lines(table) {
		file, list, ok := strings.Cut(line, ":")
		base, _, _ := strings.Cut(filepath.Base(file), ".ko")
		if ok && strings.ReplaceAll(base, "-", "_") == name {
			return append([]string{file}, strings.Fields(list)...), true
		}
	}
	return nil, false
}
