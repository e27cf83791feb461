package source

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/vringnet/vring/integration/lab/guest"
)

// BuildTurns builds bench/turns as it is in the project around the working directory, with the product of the tree. dir is
// for files of the build.
func (t *Tree) BuildTurns(ctx context.Context, file, dir string) error {
	own := filepath.Join(guest.ProjectRoot(), "bench")
	modfile, err := copyModule(own, dir)
	if err != nil {
		return err
	}
	theirs := filepath.Join(t.Dir, "bench")
	if theirs == own {
		return t.build(ctx, own, file, "./turns")
	}
	replace := overlay{}
	err = errors.Join(replace.directory(filepath.Join(own, "turns"), filepath.Join(theirs, "turns")), replace.guest(t.Dir, dir))
	if err != nil {
		return err
	}
	overlay, err := replace.write(dir)
	if err != nil {
		return err
	}
	return t.build(ctx, theirs, file, "-mod=mod", "-modfile", modfile, "-overlay", overlay, "./turns")
}

// build builds the same program of the same sources whatever the environment says.
func (t *Tree) build(ctx context.Context, dir, file string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-trimpath", "-buildvcs=false", "-o", file}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOAMD64=v1", "GOFLAGS=", "GOEXPERIMENT=")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s of %s: %w\n%s", args[len(args)-1], t.Name, err, out)
	}
	return nil
}

// copyModule copies go.mod and go.sum, for the build may want to change them.
func copyModule(from, dir string) (modfile string, err error) {
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "go.mod"), nil
}

// GoVersion returns the version of Go that a program was built with, as in "go1.26.8".
func GoVersion(program string) (string, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "", fmt.Errorf("read the Go version of %s: %w", program, err)
	}
	return info.GoVersion, nil
}
