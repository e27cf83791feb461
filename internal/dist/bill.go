package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// billTool writes bills of materials. Its version is fixed, so that its output is.
const billTool = "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0"

// writeBill lists the modules that the binary is made of, with their versions and hashes, in the format of CycloneDX.
func (d *dist) writeBill(ctx context.Context, arch, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "run", billTool, "bin", "-json", "-std", "-noserial", "-notimestamp",
		"-version", d.release.stamp, "-output", d.path("vring_%s_%s.cdx.json", d.release.version, arch), binary)
	return runCommand(cmd)
}

// licenses returns the texts under which the modules stand that the program is made of. Most of them must go with it.
func licenses(ctx context.Context) ([]byte, error) {
	list := exec.CommandContext(ctx, "go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}{{end}}", "./cmd/vring")
	list.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0", "GOFLAGS=")
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w", list.Args, err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	var text bytes.Buffer
	for _, line := range slices.Compact(lines) {
		module, dir, _ := strings.Cut(line, "\t")
		if err := appendLicense(&text, module, dir); err != nil {
			return nil, fmt.Errorf("license of %s: %w", module, err)
		}
	}
	return text.Bytes(), nil
}

// appendLicense adds the license files of a module.
func appendLicense(text *bytes.Buffer, module, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	found := false
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if e.IsDir() || !strings.HasPrefix(name, "LICENSE") && !strings.HasPrefix(name, "LICENCE") && !strings.HasPrefix(name, "COPYING") && !strings.HasPrefix(name, "NOTICE") {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(text, "==== %s: %s\n\n%s\n\n", module, e.Name(), bytes.TrimSpace(content))
		found = true
	}
	if !found {
		return errors.New("the module has no file LICENSE or COPYING")
	}
	return nil
}

// writeSums writes the checksums of all that was made, as sha256sum --check reads them.
func (d *dist) writeSums() error {
	file, err := os.Create(d.path("SHA256SUMS"))
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	for _, name := range slices.Sorted(slices.Values(d.made)) {
		content, err := os.ReadFile(filepath.Join(d.out, name))
		if err != nil {
			return errors.Join(err, file.Close())
		}
		fmt.Fprintf(w, "%x  %s\n", sha256.Sum256(content), name)
	}
	return errors.Join(w.Flush(), file.Close())
}
