package keeper

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/daemon"
)

// disk is where states are kept.
type disk struct {
	t testing.TB

	mu     sync.Mutex
	now    daemon.Config // what runs
	links  []string
	base   daemon.Config
	takes  time.Duration // how long a write takes
	fails  error
	writes int
	text   []byte  // that was written last
	told   []error // by the keeper
	after  func()  // is called once when somebody has looked at what runs; nil for nothing
}

// start starts a keeper of what runs, whose file says the same at first.
func start(t testing.TB) (*Keeper, *disk, context.CancelFunc) {
	d := &disk{t: t}
	k := New(Config{Path: "/state", Base: d.base, Now: d.current, Write: d.write, Told: func(err error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.told = append(d.told, err)
	}})
	ctx, cancel := context.WithCancel(context.Background())
	go k.Run(ctx)
	return k, d, func() {
		cancel()
		k.Wait()
	}
}

func (d *disk) current() (daemon.Config, []string) {
	d.mu.Lock()
	now, links, after := d.now, d.links, d.after
	d.after = nil
	d.mu.Unlock()
	if after != nil {
		after()
	}
	return now, links
}

func (d *disk) write(text []byte) error {
	d.mu.Lock()
	takes := d.takes
	d.mu.Unlock()
	time.Sleep(takes)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes++
	if d.fails == nil {
		d.text = text
	}
	return d.fails
}

// set changes what runs, or how the disk is.
func (d *disk) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// kept is what the next start begins with.
func (d *disk) kept() daemon.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, err := configfile.ParseState("state", d.text)
	require.NoError(d.t, err)
	c, dropped := s.Apply(&d.base)
	require.Empty(d.t, dropped)
	return c
}

func TestAChangeIsAnsweredWhenItIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d, stop := start(t)
		defer stop()
		for _, level := range []slog.Level{slog.LevelDebug, slog.LevelWarn, slog.LevelInfo} {
			d.set(func() { d.now.Log.Level, d.takes = level, time.Second })
			begun := time.Now()
			require.NoError(t, k.Keep(time.Minute))
			require.Equal(t, time.Second, time.Since(begun), "the disk's time")
			require.Equal(t, level, d.kept().Log.Level)
		}
		path, err := k.File()
		require.Equal(t, "/state", path)
		require.NoError(t, err)
	})
}

// A change that comes in the middle of a write is kept by the next one, and not answered before.
func TestAChangeInTheMiddleOfAWriteIsKeptByTheNextOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d, stop := start(t)
		defer stop()
		d.set(func() { d.takes = time.Second })
		first := make(chan error, 1)
		go func() { first <- k.Keep(time.Minute) }()
		time.Sleep(time.Second / 2)
		d.set(func() { d.now.Log.Level = slog.LevelError })
		begun := time.Now()
		require.NoError(t, k.Keep(time.Minute))
		require.Equal(t, 3*time.Second/2, time.Since(begun))
		require.Equal(t, slog.LevelError, d.kept().Log.Level)
		require.NoError(t, <-first)
	})
}

// A change right after the keeper has looked is not taken for one that it has seen.
func TestAChangeThatWasNotSeenIsNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d, stop := start(t)
		defer stop()
		second := make(chan error, 1)
		d.set(func() {
			d.after = func() {
				d.set(func() { d.now.Log.Level = slog.LevelError })
				r := k.want()
				go func() {
					<-r.done
					require.Equal(t, slog.LevelError, d.kept().Log.Level)
					second <- r.err
				}()
			}
		})
		require.NoError(t, k.Keep(time.Minute))
		require.NoError(t, <-second)
	})
}

// A hundred changes at once cost two writes, and a stream of them no more than the rate allows.
func TestManyChangesAreFewWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d, stop := start(t)
		defer stop()
		d.set(func() { d.takes = 10 * time.Millisecond })
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { require.NoError(t, k.Keep(time.Minute)) })
		}
		all.Wait()
		require.LessOrEqual(t, d.writes, 2)
		d.set(func() { d.writes, d.takes = 0, 0 })
		const seconds = 20
		for begun := time.Now(); time.Since(begun) < seconds*time.Second; time.Sleep(time.Millisecond) {
			require.NoError(t, k.Keep(time.Minute))
		}
		require.LessOrEqual(t, d.writes, writeBurst+seconds*writeRate+1)
		require.Greater(t, d.writes, seconds*writeRate/2)
	})
}

// Who has changed something is told that it is not kept; it is tried again without being asked, and told once.
func TestAWriteThatFailsIsToldAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d, stop := start(t)
		defer stop()
		full := errors.New("the disk is full")
		d.set(func() { d.fails, d.now.Log.Level = full, slog.LevelDebug })
		require.ErrorIs(t, k.Keep(time.Minute), full)
		require.ErrorIs(t, k.Keep(time.Minute), full)
		_, err := k.File()
		require.ErrorIs(t, err, full)
		d.set(func() { d.fails = nil })
		time.Sleep(retry)
		synctest.Wait()
		require.Equal(t, slog.LevelDebug, d.kept().Log.Level)
		_, err = k.File()
		require.NoError(t, err)
		require.Equal(t, []error{full, nil}, d.told)
	})
}

func TestADiskThatIsSlowHoldsNobodyUpForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d, stop := start(t)
		d.set(func() { d.takes = time.Hour })
		begun := time.Now()
		require.ErrorContains(t, k.Keep(time.Second), "has not taken it within 1s")
		require.Equal(t, time.Second, time.Since(begun))
		stop()
	})
}

// What was wanted before the end is kept, and nothing is afterwards. The end and the next write are both due, so it is tried often.
func TestWhatWasWantedBeforeTheEndIsKept(t *testing.T) {
	for range 30 {
		requireKeptAtTheEnd(t)
	}
}

func requireKeptAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d, stop := start(t)
		d.set(func() { d.takes = time.Second })
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- k.Keep(time.Minute) }()
		time.Sleep(time.Second / 2)
		d.set(func() { d.now.Log.Level = slog.LevelError })
		go func() { second <- k.Keep(time.Minute) }()
		synctest.Wait()
		stop()
		require.NoError(t, <-first)
		require.NoError(t, <-second)
		require.Equal(t, slog.LevelError, d.kept().Log.Level)
		require.ErrorIs(t, k.Keep(time.Minute), errEnded)
	})
}

// What the file says by now is no difference to it any more.
func TestWhatTheFileSaysIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d, stop := start(t)
		defer stop()
		d.set(func() { d.now.Log.Level, d.links = slog.LevelDebug, []string{"a"} })
		require.NoError(t, k.Keep(time.Minute))
		k.SetBase(d.now)
		d.set(func() { d.base = d.now })
		require.NoError(t, k.Keep(time.Minute))
		s, err := configfile.ParseState("state", d.text)
		require.NoError(t, err)
		require.Empty(t, s.Changed)
		require.Equal(t, []string{"a"}, s.LinksDown)
	})
}
