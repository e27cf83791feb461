package daemon

import (
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// openedStub returns a daemon of one guest with a stub, the configuration that it was opened with, and the level of its log.
func openedStub(t *testing.T) (d *Daemon, config Config, level *slog.LevelVar) {
	config = stubs(filepath.Join(shortDir(t), "s"))
	config.Threads.Poll = DefaultPoll
	p, events := program()
	p.Level = new(slog.LevelVar)
	go func() {
		for range events {
		}
	}()
	d = open(t, config, p)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d, config, p.Level
}

func TestAConfigurationChangesWhileGuestsAreServed(t *testing.T) {
	d, config, level := openedStub(t)
	require.Equal(t, slog.LevelInfo, level.Level())
	config.Log.Level, config.Threads.Poll = slog.LevelWarn, time.Millisecond
	done, err := d.Apply(config)
	require.NoError(t, err)
	require.Equal(t, []string{"Threads.Poll", "Log.Level"}, pathsOf(done.Changed))
	require.Equal(t, slog.LevelWarn, level.Level())
	require.Equal(t, config, d.Config())
	done, err = d.Apply(config)
	require.NoError(t, err)
	require.Empty(t, done.Changed, "it is so already")
}

func TestAConfigurationChangesAsAWholeOrNotAtAll(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Config)
		wants []string
	}{
		"a value that is wrong": {func(c *Config) { c.Threads.Poll = 2 * MaxPoll }, []string{"poll-us 2000000: want 0 to 1000000"}},
		"a field that is fixed": {func(c *Config) { c.FrontEnds.SocketPaths = []string{"/run/other"} }, []string{"socket-path cannot change while guests are served: "}},
		"a network in the place of another one": {func(c *Config) {
			nat := DefaultNAT()
			c.NAT, c.Stub = &nat, nil
		}, []string{"mtu cannot change while guests are served: ", "mode cannot change while guests are served: "}},
		"all that is wrong is told": {func(c *Config) {
			c.Threads.Poll, c.Threads.CPUs = -1, []int{0}
		}, []string{"poll-us ", "cpus cannot change while guests are served: "}},
	} {
		t.Run(name, func(t *testing.T) {
			d, config, level := openedStub(t)
			before := d.Config()
			config.Log.Level = slog.LevelError // which by itself could change
			c.spoil(&config)
			done, err := d.Apply(config)
			for _, want := range c.wants {
				require.ErrorContains(t, err, want)
			}
			require.Empty(t, done.Changed)
			require.Equal(t, slog.LevelInfo, level.Level(), "nothing has changed")
			require.Equal(t, before, d.Config())
		})
	}
}

func TestSeveralCallersChangeAConfigurationOneAfterTheOther(t *testing.T) {
	d, config, level := openedStub(t)
	var all sync.WaitGroup
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		all.Go(func() {
			c := config
			c.Log.Level = l
			_, err := d.Apply(c)
			require.NoError(t, err)
		})
	}
	all.Wait()
	require.Equal(t, d.Config().Log.Level, level.Level())
}

func pathsOf(fields []Field) (paths []string) {
	for _, f := range fields {
		paths = append(paths, f.Path)
	}
	return paths
}

func TestApplyChangesAllFieldsThatAreLiveAndNoOthers(t *testing.T) {
	d, _ := openedNAT(t, 1)
	known := d.changes(false, d.listChange())
	for _, f := range Fields() {
		_, can := known[f.Path]
		require.Equal(t, f.Live, can, f.Path)
		delete(known, f.Path)
	}
	require.Empty(t, known, "what is no field")
}
