package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/vringnet/vring/integration/guest"
)

// guestProgram is what the guest runs.
const guestProgram = "./bench/guest"

// Build builds a command of this project, named by its directory as in "./cmd/vring", into the file out. The program is
// static.
func Build(ctx context.Context, command, out string) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", out, command)
	build.Dir = guest.ProjectRoot()
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", command, err, text)
	}
	return nil
}

// BuildImage makes the guest's initramfs in a directory and returns its path.
func BuildImage(ctx context.Context, dir string) (string, error) {
	modules, err := guest.UMLModules()
	if err != nil {
		return "", err
	}
	program, image := filepath.Join(dir, "guest"), filepath.Join(dir, "guest.cpio")
	if err := Build(ctx, guestProgram, program); err != nil {
		return "", err
	}
	return image, guest.Image{Init: program, Modules: modules}.Write(image)
}
