package vhostuser

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// logLimit allows burst lines at once and one more every interval.
//
// A front end can connect, fail and come again thousands of times a second, and could fill a disk with what is logged
// about it. So what a Server logs is limited, apart for the front end that it serves and for those that it turns away,
// lest these silence what is logged about that one.
type logLimit struct {
	burst    int
	interval time.Duration
}

// sessionLimit is for what a session logs.
func sessionLimit() logLimit { return logLimit{burst: 50, interval: 10 * time.Second} }

// stepLimit is for how far front ends and guests have come. A guest can load its driver again and again.
func stepLimit() logLimit { return logLimit{burst: 30, interval: 10 * time.Second} }

// refusalLimit is for front ends that are turned away.
func refusalLimit() logLimit { return logLimit{burst: 3, interval: 10 * time.Second} }

// limitedLog is a logger with a budget. The first line after some that were left out tells how many there were. It may be
// used by several goroutines.
type limitedLog struct {
	log   *slog.Logger
	limit logLimit
	now   func() time.Time

	mu         sync.Mutex
	budget     int
	filled     time.Time // when budget was last topped up
	suppressed int
}

func newLimitedLog(log *slog.Logger, limit logLimit, now func() time.Time) *limitedLog {
	return &limitedLog{log: log, limit: limit, now: now, budget: limit.burst, filled: now()}
}

func (l *limitedLog) Info(msg string, args ...any)  { l.write(slog.LevelInfo, msg, args) }
func (l *limitedLog) Warn(msg string, args ...any)  { l.write(slog.LevelWarn, msg, args) }
func (l *limitedLog) Debug(msg string, args ...any) { l.write(slog.LevelDebug, msg, args) }

func (l *limitedLog) write(level slog.Level, msg string, args []any) {
	ctx := context.Background()
	if !l.log.Enabled(ctx, level) {
		return
	}
	suppressed, ok := l.take()
	if !ok {
		return
	}
	if suppressed > 0 {
		args = append(args, "lines_left_out", suppressed)
	}
	l.log.Log(ctx, level, msg, args...)
}

// take spends one line of the budget, and returns how many lines were left out since the last one that was not.
func (l *limitedLog) take() (suppressed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := int(l.now().Sub(l.filled) / l.limit.interval); n > 0 {
		l.budget = min(l.budget+n, l.limit.burst)
		l.filled = l.filled.Add(time.Duration(n) * l.limit.interval)
	}
	if l.budget == 0 {
		l.suppressed++
		return 0, false
	}
	l.budget--
	suppressed, l.suppressed = l.suppressed, 0
	return suppressed, true
}
