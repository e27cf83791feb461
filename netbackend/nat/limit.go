package nat

import (
	"log/slog"
	"strconv"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
)

// allow reports whether more slow work of a kind is within the guest's budget. If not, the frame is to be dropped.
func (t *turn) allow(w limits.Work) bool {
	if t.pairs.budgets.Take(w, t.now) {
		return true
	}
	t.hit(w.Limit())
	return false
}

// hit counts that the guest has run into a limit. The user is told, but not each time.
func (s *shard) hit(l limits.Limit) {
	n, tell := s.reports.Hit(&s.counters, l, s.lastTurn)
	if !tell {
		return
	}
	s.worker.Raise(netbackend.Notice{
		Level: int(slog.LevelWarn), Message: l.String(), Key: "so_far", Value: strconv.FormatUint(n, 10),
	})
}
