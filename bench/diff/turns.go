package diff

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// turnsRows asks a build of bench/turns for its rows.
func turnsRows(ctx context.Context, b *build) ([]row, error) {
	cmd := exec.CommandContext(ctx, b.turns)
	cmd.Stdin, cmd.Stderr = strings.NewReader("rows\n"), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("rows of %s: %w", b.turns, err)
	}
	var known []struct {
		Name   string `json:"name"`
		Frames int    `json:"frames"`
	}
	if err := json.Unmarshal(out, &known); err != nil {
		return nil, err
	}
	var rows []row
	for _, k := range known {
		rows = append(rows, row{k.Name, func(ctx context.Context, b *build) (sampler, error) {
			return startTurns(ctx, b.turns, k.Name, k.Frames)
		}})
	}
	return rows, nil
}

// turns is a running build of bench/turns.
type turns struct {
	row    string
	frames int // of a turn
	cmd    *exec.Cmd
	lines  io.WriteCloser
	output *bufio.Reader
	stderr bytes.Buffer
}

// startTurns starts the program and lets it prepare the row.
func startTurns(ctx context.Context, program, name string, frames int) (*turns, error) {
	t := &turns{row: name, frames: frames, cmd: exec.CommandContext(ctx, program)}
	t.cmd.Stderr = &t.stderr
	lines, errIn := t.cmd.StdinPipe()
	output, errOut := t.cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut); err != nil {
		return nil, err
	}
	t.lines, t.output = lines, bufio.NewReader(output)
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	bind(t.cmd.Process.Pid)
	if _, err := t.sample(ctx, time.Millisecond); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

// niceness is that of the thread that has the turns.
const niceness = -10

// bind binds the main thread of a process, which has the turns, to the last processor that it may use, the same one for both
// states, and puts it before others. Without the right to do so it runs where and when it will.
func bind(pid int) {
	var may, one unix.CPUSet
	if unix.SchedGetaffinity(pid, &may) != nil {
		return
	}
	last := 0
	for cpu, left := 0, may.Count(); left > 0; cpu++ {
		if may.IsSet(cpu) {
			last = cpu
			left--
		}
	}
	one.Set(last)
	_ = unix.Setpriority(unix.PRIO_PROCESS, pid, niceness)
	_ = unix.SchedSetaffinity(pid, &one)
}

// sample returns the nanoseconds for a frame.
func (t *turns) sample(_ context.Context, length time.Duration) (float64, error) {
	if _, err := fmt.Fprintf(t.lines, "time\t%s\t%v\n", t.row, length); err != nil {
		return 0, t.failed(err)
	}
	line, err := t.output.ReadBytes('\n')
	if err != nil {
		return 0, t.failed(err)
	}
	var answer struct {
		Turns int           `json:"turns"`
		Time  time.Duration `json:"time_ns"`
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return 0, t.failed(err)
	}
	if answer.Turns == 0 || answer.Time <= 0 {
		return 0, t.failed(fmt.Errorf("%d turns in %v", answer.Turns, answer.Time))
	}
	return float64(answer.Time.Nanoseconds()) / float64(answer.Turns*t.frames), nil
}

// failed adds what the program has said.
func (t *turns) failed(err error) error {
	return fmt.Errorf("row %q: %w; the program's last words: %q", t.row, err, strings.TrimSpace(t.stderr.String()))
}

// close ends the program, which ends when there are no more lines.
func (t *turns) close() error {
	err := t.lines.Close()
	return errors.Join(err, t.cmd.Wait())
}
