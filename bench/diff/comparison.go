package diff

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/vringnet/vring/bench/source"
)

// build is a state of the source tree with its programs.
type build struct {
	tree  *source.Tree
	turns string
}

// newBuild builds a state. dir is for what is built.
func newBuild(ctx context.Context, name, dir string) (*build, error) {
	tree, err := source.Open(ctx, name, dir)
	if err != nil {
		return nil, err
	}
	b := &build{tree: tree, turns: filepath.Join(dir, "turns")}
	if err := tree.BuildTurns(ctx, b.turns, dir); err != nil {
		return nil, errors.Join(err, tree.Close())
	}
	return b, nil
}

// comparison is one run.
type comparison struct {
	options
	old, new *build
	progress io.Writer
	end      time.Time
}

// run measures until all rows are certain, or nothing is left of rounds and time, or ctx has ended.
func (c *comparison) run(ctx context.Context, rows []row, d *document) error {
	results := map[string]*result{}
	for _, r := range rows {
		results[r.name] = &result{Row: r.name, Verdict: notCertain}
		d.Rows = append(d.Rows, results[r.name])
	}
	for left := rows; len(left) > 0; {
		var next []row
		for _, r := range left {
			more, err := c.round(ctx, r, results[r.name])
			if err != nil {
				return err
			}
			if more {
				next = append(next, r)
			}
		}
		left = next
	}
	return nil
}

// round has one more round of a row, and reports whether it needs another.
func (c *comparison) round(ctx context.Context, r row, to *result) (more bool, err error) {
	if ctx.Err() != nil {
		to.Note = "interrupted"
		return false, nil
	}
	if time.Now().After(c.end) {
		to.Note = fmt.Sprintf("the %v of --time are over", c.time)
		return false, nil
	}
	begin := time.Now()
	newFirst := len(to.Pairs)/pairsOfRound%2 == 1
	pairs, err := takeRound(ctx, r, c.old, c.new, c.length, newFirst)
	if ctx.Err() != nil {
		to.Note = "interrupted"
		return false, nil
	}
	if err != nil {
		return false, err
	}
	to.add(pairs, float64(c.limit))
	fmt.Fprintf(c.progress, "%s, round %d: %s, %s; %d pairs thrown out; %.1f s\n",
		r.name, len(to.Pairs)/pairsOfRound, estimate(to.Estimate), to.Verdict, to.Thrown, time.Since(begin).Seconds())
	if to.Verdict != notCertain {
		return false, nil
	}
	if len(to.Pairs) >= c.rounds*pairsOfRound {
		to.Note = fmt.Sprintf("the %d of --rounds are over", c.rounds)
		return false, nil
	}
	return true, nil
}
