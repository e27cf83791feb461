package nat

import (
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// The engine's clock stands still while the host is suspended (CLOCK_MONOTONIC), and so does that of the kernel, whose sockets are
// the other half of each connection: nobody could answer meanwhile, and nobody is late. Two things are different after a sleep. A
// guest's clock may have gone on, as that of KVM does: then what the router has told it has lapsed, and the next advertisement may
// be minutes away. And the host may have woken up in another network, whose resolvers are not to blame for what was in the last.

const (
	// sleepLook is how often the engine looks whether the host was suspended, if it has a turn, in nanoseconds.
	sleepLook = int64(time.Second)
	// aSleep is what counts as one. Shorter ones leave no traces.
	aSleep = time.Second
)

// sleepWatch notices that the host was suspended.
type sleepWatch struct {
	slept func() time.Duration
	known time.Duration // what slept has returned
	at    int64         // when to look again
}

// begin takes the present for known. slept is that of Config.
func (s *sleepWatch) begin(slept func() time.Duration) {
	if s.slept = slept; slept == nil {
		s.slept = hostSlept
	}
	s.known = s.slept()
}

// look returns how long the host was suspended since the last look, 0 if it was not.
func (s *sleepWatch) look(now int64) time.Duration {
	s.at = now + sleepLook
	d := s.slept() - s.known
	if d < aSleep {
		return 0
	}
	s.known += d
	return d
}

// hostSlept returns how long this host has been suspended since it booted.
func hostSlept() time.Duration {
	var awake, all unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &all) != nil {
		return 0
	}
	return time.Duration(all.Nano() - awake.Nano())
}

// lookForSleep looks whether the host was suspended, and does what is to be done after that.
func (p *Port) lookForSleep(t *shard.Turn) {
	slept := p.sleep.look(t.Now)
	if slept == 0 || !t.Listening {
		return // one queue pair does it for all
	}
	p.names.Forgive()
	p.link.AdvertiseSoon(t.Now)
	t.Worker.Raise(netbackend.Notice{
		Level: int(slog.LevelInfo), Message: "the host was suspended", Key: "for", Value: slept.Round(time.Second).String(),
	})
}
