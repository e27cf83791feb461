package instructions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/vringnet/vring/bench/singlestep"
)

const (
	trials = 10 // of each row
	enough = 3  // trials with the same, least count
	empty  = "empty"
)

// row is a row of bench/turns.
type row struct {
	Name   string `json:"name"`
	Frames int    `json:"frames"` // of one turn
}

// rowsOf asks a build of bench/turns for its rows.
func rowsOf(ctx context.Context, program string) ([]row, error) {
	cmd := exec.CommandContext(ctx, program)
	cmd.Stdin, cmd.Stderr = strings.NewReader("rows\n"), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("rows of %s: %w", program, err)
	}
	var rows []row
	return rows, json.Unmarshal(out, &rows)
}

// counter steps through the turns of a build of bench/turns.
type counter struct {
	lines io.Writer // to the program
	next  singlestep.Next
}

// countRows calls use with a counter for a build of bench/turns.
func countRows(program string, use func(*counter) error) (err error) {
	in, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return errors.Join(err, out.Close())
	}
	defer func() { err = errors.Join(err, nowhere.Close()) }()
	// Without the features that not all processors have, memory is copied by the same instructions everywhere.
	env := append(os.Environ(), "GODEBUG=cpu.all=off", "GOGC=", "GOMEMLIMIT=", "GOMAXPROCS=")
	files := [3]*os.File{in, nowhere, os.Stderr}
	return singlestep.Trace([]string{program}, env, files, func(next singlestep.Next) error {
		return errors.Join(use(&counter{out, next}), out.Close())
	})
}

// trial returns the instructions of one turn of a row, and those of the measurement around it.
// at is told where each lies, if it is not nil.
func (c *counter) trial(name string, at func(pc uint64)) (int, error) {
	if _, err := fmt.Fprintf(c.lines, "step\t%s\t1\n", name); err != nil {
		return 0, err
	}
	n, err := c.next(at)
	if err != nil {
		return 0, fmt.Errorf("step through %s: %w", name, err)
	}
	return n, nil
}

// least returns the least count of some trials.
func (c *counter) least(name string) (int, error) {
	best, equal := 0, 0
	for i := 0; i < trials && equal < enough; i++ {
		n, err := c.trial(name, nil)
		switch {
		case errors.Is(err, singlestep.ErrStuck):
		case err != nil:
			return 0, err
		case equal == 0 || n < best:
			best, equal = n, 1
		case n == best:
			equal++
		}
	}
	if equal == 0 {
		return 0, fmt.Errorf("row %q: %w in each of %d trials", name, singlestep.ErrStuck, trials)
	}
	return best, nil
}

// counts are instructions for each frame, by row.
type counts map[string]float64

// countAll counts all rows. say is told of each.
func countAll(ctx context.Context, program string, rows []row, say func(name string, perFrame float64)) (counts, error) {
	all := counts{}
	err := countRows(program, func(c *counter) error {
		overhead, err := c.least(empty)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := c.least(r.Name)
			if err != nil {
				return err
			}
			all[r.Name] = perFrame(n-overhead, r.Frames)
			say(r.Name, all[r.Name])
		}
		return nil
	})
	return all, err
}

// perFrame is rounded to a tenth of an instruction.
func perFrame(instructions, frames int) float64 {
	return float64((instructions*10+frames/2)/frames) / 10
}
