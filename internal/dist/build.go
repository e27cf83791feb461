package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// architectures are those that vring is made for.
var architectures = []string{"amd64", "arm64"}

func known(arch string) bool { return slices.Contains(architectures, arch) }

// build makes the binary. Nothing of this machine's settings for Go counts, but where it finds modules.
func (d *dist) build(ctx context.Context, arch, file string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X main.version="+d.release.stamp, "-o", file, "./cmd/vring")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0", "GOAMD64=v1", "GOARM64=v8.0",
		"GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off")
	return runCommand(cmd)
}

// describe lets the program write its manual pages and completions, and returns their directory. They are the same on all
// architectures, so a program for this machine writes them once: binary, if that is for it.
func (d *dist) describe(ctx context.Context, arch, binary string) (string, error) {
	if d.pages != "" {
		return d.pages, nil
	}
	program := binary
	if arch != runtime.GOARCH {
		program = filepath.Join(d.work, "vring")
		if err := d.build(ctx, runtime.GOARCH, program); err != nil {
			return "", err
		}
	}
	dir := filepath.Join(d.work, "pages")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	if err := runCommand(exec.CommandContext(ctx, program, "man", dir)); err != nil {
		return "", err
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script, err := exec.CommandContext(ctx, program, "completion", shell).Output()
		if err != nil {
			return "", fmt.Errorf("vring completion %s: %w", shell, err)
		}
		if err := os.WriteFile(filepath.Join(dir, shell), script, 0o644); err != nil {
			return "", err
		}
	}
	d.pages = dir
	return dir, nil
}

// runCommand runs a command to its end; the error has what it printed.
func runCommand(cmd *exec.Cmd) error {
	var told bytes.Buffer
	cmd.Stdout, cmd.Stderr = &told, &told
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, told.Bytes())
	}
	return nil
}
