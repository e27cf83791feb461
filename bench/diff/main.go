package diff

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/program"
	"github.com/vringnet/vring/integration/lab/guest"
)

const statusError = 3

// Run compares as the arguments say, see program.Command. The exit status is that of the package's comment.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	status, err := command(ctx, args, stdout, stderr)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return err
	case err != nil:
		status = statusError
	}
	return program.Exit(status, err)
}

// command compares as the arguments say, and returns what the exit status is to be. What is known is printed even if
// something went wrong.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) (status int, err error) {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return statusError, err
	}
	dir, err := os.MkdirTemp("", "vring-diff")
	if err != nil {
		return statusError, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c := comparison{options: o, progress: stderr}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.build(ctx, dir); err != nil {
		return statusError, err
	}
	rows, err := c.wanted(ctx)
	if err != nil {
		return statusError, err
	}
	d := document{
		Time: time.Now(), Machine: machine.Describe(ctx, guest.ProjectRoot()), Limit: float64(o.limit), Worse: float64(o.worse),
		Old: state{c.old.tree.Name, c.old.tree.Commit}, New: state{c.new.tree.Name, c.new.tree.Commit},
	}
	c.end = d.Time.Add(o.time)
	err = c.run(ctx, rows, &d)
	return d.exitStatus(), errors.Join(err, d.write(stdout, o.json))
}

// build builds both states.
func (c *comparison) build(ctx context.Context, dir string) error {
	for _, b := range []struct {
		name string
		to   **build
	}{{c.options.old, &c.old}, {c.options.new, &c.new}} {
		place, err := os.MkdirTemp(dir, "build")
		if err != nil {
			return err
		}
		fmt.Fprintf(c.progress, "building %s\n", b.name)
		if *b.to, err = newBuild(ctx, b.name, place); err != nil {
			return err
		}
	}
	return nil
}

// close removes what was checked out.
func (c *comparison) close() (err error) {
	for _, b := range []*build{c.old, c.new} {
		if b != nil {
			err = errors.Join(err, b.tree.Close())
		}
	}
	return err
}

// wanted returns the rows that were asked for.
func (c *comparison) wanted(ctx context.Context) ([]row, error) {
	all, err := turnsRows(ctx, c.new)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, r := range all {
		if c.wants(r.name) {
			rows = append(rows, r)
		}
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("--rows %q: no row has a name that contains one of these", c.rows)
	}
	return rows, nil
}
