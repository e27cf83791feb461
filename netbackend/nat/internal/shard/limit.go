package shard

import (
	"log/slog"
	"strconv"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
)

// Allow reports whether more slow work of a kind is within the guest's budget. If not, the frame is to be dropped.
func (t *Turn) Allow(w limits.Work) bool {
	if t.Pairs.budgets.Take(w, t.Now) {
		return true
	}
	t.OverLimit(w.Limit())
	return false
}

// BudgetUsed returns how much of the guest's budget of a kind of slow work is used up, and how much there can be. Anybody may call it.
func (s *Shard) BudgetUsed(w limits.Work, now int64) (used, most int) {
	return s.Pairs.budgets.Used(w, now)
}

// OverLimit counts that the guest has run into a limit. The user is told, but not each time.
func (s *Shard) OverLimit(l limits.Limit) {
	n, tell := s.reports.Hit(&s.Counters, l, s.LastTurn)
	if !tell {
		return
	}
	s.Worker.Raise(netbackend.Notice{
		Level: int(slog.LevelWarn), Message: l.String(), Key: "so_far", Value: strconv.FormatUint(n, 10),
	})
}

// Warn tells the user of something rare.
func (s *Shard) Warn(message, key, value string) {
	s.Worker.Raise(netbackend.Notice{Level: int(slog.LevelWarn), Message: message, Key: key, Value: value})
}
