package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	warmTurns  = 200         // before anything is measured: what grows once has grown, and has its code in the caches
	warmTime   = time.Second // at the longest
	kept       = 0.5         // of the turns of a sample, the fastest ones
	minTurns   = 200         // in a sample, however long it takes
	maxTime    = time.Minute // of one line
	maxCount   = 1_000_000   // of turns in one line
	stepSignal = unix.SIGUSR1
)

// player has the stages of the rows that were asked for.
type player struct {
	t      testing.TB
	stages map[string]stage
}

func newPlayer(t testing.TB) *player { return &player{t: t, stages: map[string]stage{}} }

// obeyAll does what it reads, and answers each line, until the end of what it reads.
func (p *player) obeyAll(in io.Reader, out io.Writer) error {
	answers := json.NewEncoder(out)
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		answer, err := p.obey(strings.Split(lines.Text(), "\t"))
		if err != nil {
			return fmt.Errorf("%q: %w", lines.Text(), err)
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

// obey does what one line asks for.
func (p *player) obey(words []string) (answer any, err error) {
	switch {
	case len(words) == 1 && words[0] == "rows":
		return rows(), nil
	case len(words) != 3:
		return nil, errors.New("not a line that this program knows")
	}
	s, err := p.stage(words[1])
	if err != nil {
		return nil, err
	}
	switch words[0] {
	case "time":
		length, err := time.ParseDuration(words[2])
		if err != nil || length <= 0 || length > maxTime {
			return nil, fmt.Errorf("length %q: it is above 0 and at most %v", words[2], maxTime)
		}
		return takeTime(s, length), nil
	case "step":
		count, err := strconv.Atoi(words[2])
		if err != nil || count < 1 || count > maxCount {
			return nil, fmt.Errorf("count %q: it is between 1 and %d", words[2], maxCount)
		}
		return steps(s, count), nil
	}
	return nil, errors.New("not a line that this program knows")
}

// stage returns the stage of a row, which has had some turns already.
func (p *player) stage(name string) (stage, error) {
	if s, ok := p.stages[name]; ok {
		return s, nil
	}
	r, ok := findRow(name)
	if !ok {
		return nil, fmt.Errorf("no row %q", name)
	}
	s := r.start(p.t)
	begin := time.Now()
	for i := 0; i < warmTurns && time.Since(begin) < warmTime; i++ {
		s(func(turn func()) { turn() })
	}
	p.stages[name] = s
	return s, nil
}

// timing is the answer to "time".
type timing struct {
	Turns int           `json:"turns"`   // without those left out
	Time  time.Duration `json:"time_ns"` // that they took, all together
}

// takeTime measures turns for about so long, the time between them included. The slower half is left out: all turns are
// alike, but in some the thread was interrupted, on a busy machine in many.
func takeTime(s stage, length time.Duration) timing {
	runtime.GC()
	var times []time.Duration
	measure := func(turn func()) {
		begin := time.Now()
		turn()
		times = append(times, time.Since(begin))
	}
	for end := time.Now().Add(length); len(times) < minTurns || time.Now().Before(end); {
		s(measure)
	}
	slices.Sort(times)
	var answer timing
	answer.Turns = int(kept * float64(len(times)))
	for _, t := range times[:answer.Turns] {
		answer.Time += t
	}
	return answer
}

// stepping is the answer to "step".
type stepping struct {
	Turns int `json:"turns"`
}

// steps has turns between signals to the own thread.
func steps(s stage, count int) stepping {
	pid, tid := os.Getpid(), unix.Gettid()
	runtime.GC()
	measure := func(turn func()) {
		signal(pid, tid)
		turn()
		signal(pid, tid)
	}
	for range count {
		s(measure)
	}
	return stepping{count}
}

// signal tells whoever traces the thread.
func signal(pid, tid int) {
	unix.RawSyscall(unix.SYS_TGKILL, uintptr(pid), uintptr(tid), uintptr(stepSignal))
}
