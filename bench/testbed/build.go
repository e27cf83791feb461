package testbed

import (
	"context"
	"path/filepath"

	"github.com/vringnet/vring/integration/lab/guest"
)

// Build builds a command of this project, named by its directory as in "./cmd/vring", into the file out. The program is
// static.
func Build(ctx context.Context, command, out string) error {
	return guest.BuildProgram(ctx, out, command, "CGO_ENABLED=0")
}

// BuildGuest builds the guest's program in a directory and returns its path.
func BuildGuest(ctx context.Context, dir string) (string, error) {
	file := filepath.Join(dir, "guest")
	return file, Build(ctx, "./bench/guest", file)
}
