package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vringnet/vring/integration/lab/guest"
)

// Tree is a state of the source tree.
type Tree struct {
	Name   string // as it was asked for
	Commit string // with "+" behind it if there are changes that are not committed; empty if git does not know
	Dir    string

	temporary bool // a worktree of ours
}

// Open finds a state of the source tree: name is the directory of a checkout or a git ref. A ref is checked out into a
// worktree below dir, until Close.
func Open(ctx context.Context, name, dir string) (*Tree, error) {
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		absolute, err := filepath.Abs(name)
		if err != nil {
			return nil, err
		}
		return &Tree{Name: name, Dir: absolute, Commit: describe(ctx, absolute)}, nil
	}
	commit, err := git(ctx, guest.ProjectRoot(), "rev-parse", "--verify", "--quiet", "--short=12", name+"^{commit}")
	if err != nil {
		return nil, fmt.Errorf("%q: neither a git ref nor the directory of a checkout", name)
	}
	parent, err := os.MkdirTemp(dir, "tree")
	if err != nil {
		return nil, err
	}
	t := &Tree{Name: name, Commit: commit, Dir: filepath.Join(parent, "vring"), temporary: true}
	if _, err := git(ctx, guest.ProjectRoot(), "worktree", "add", "--detach", t.Dir, commit); err != nil {
		return nil, fmt.Errorf("check out %s: %w", name, err)
	}
	return t, nil
}

// Close removes what Open has made.
func (t *Tree) Close() error {
	if !t.temporary {
		return nil
	}
	_, err := git(context.Background(), guest.ProjectRoot(), "worktree", "remove", "--force", t.Dir)
	return err
}

// describe returns the commit of a checkout.
func describe(ctx context.Context, dir string) string {
	commit, err := git(ctx, dir, "rev-parse", "--short=12", "HEAD")
	if err != nil {
		return ""
	}
	changes, err := git(ctx, dir, "status", "--porcelain")
	if err != nil || changes != "" {
		return commit + "+"
	}
	return commit
}

// git runs git and returns what it prints.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = errors.Join(err, errors.New(strings.TrimSpace(stderr.String())))
	}
	return strings.TrimSpace(string(out)), err
}
