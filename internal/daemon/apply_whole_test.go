package daemon

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A caller who has kept what a list of the configuration is in may change the list itself.
func TestAFixedFieldThatIsChangedInPlaceIsRefused(t *testing.T) {
	d, config, _ := openedStub(t)
	socket := config.FrontEnds.SocketPaths[0]
	config.FrontEnds.SocketPaths[0] = "/run/other"
	done, err := d.Apply(config)
	require.ErrorContains(t, err, "socket-path cannot change while guests are served: ")
	require.Empty(t, done.Changed)
	require.Equal(t, []string{socket}, d.Config().FrontEnds.SocketPaths)
}

func TestAFixedFieldThatIsChangedInPlaceAfterAnApplyIsRefused(t *testing.T) {
	d, config, _ := openedStub(t)
	config.Log.Level = slog.LevelWarn
	_, err := d.Apply(config)
	require.NoError(t, err)
	config.FrontEnds.SocketPaths[0] = "/run/other"
	_, err = d.Apply(config)
	require.ErrorContains(t, err, "socket-path cannot change while guests are served: ")
}

func TestAConfigurationThatWasHandedOutIsNotTheDaemons(t *testing.T) {
	d, config, _ := openedStub(t)
	out := d.Config()
	out.FrontEnds.SocketPaths[0], out.Stub.Mode = "/run/other", StubEcho
	require.Equal(t, config, d.Config())
	_, err := d.Apply(out)
	require.ErrorContains(t, err, "socket-path cannot change while guests are served: ")
	require.ErrorContains(t, err, "mode cannot change while guests are served: ")
}

func TestAnApplyThatIsRefusedChangesNothing(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"for a fixed field":            func(c *Config) { c.FrontEnds.Client = true },
		"for a list changed in place":  func(c *Config) { c.FrontEnds.SocketPaths[0] = "/run/other" },
		"for a value that is wrong":    func(c *Config) { c.Log.Level = 3 },
		"for a mode that there is not": func(c *Config) { c.Stub.Mode = "loud" },
	} {
		t.Run(name, func(t *testing.T) {
			d, config, level := openedStub(t)
			before := d.Config()
			config.Log.Level, config.Threads.Poll = slog.LevelError, time.Millisecond
			spoil(&config)
			done, err := d.Apply(config)
			require.Error(t, err)
			require.Empty(t, done.Changed)
			require.Equal(t, slog.LevelInfo, level.Level())
			require.Equal(t, DefaultPoll, d.guests[0].device.Poll())
			require.Equal(t, before, d.Config())
		})
	}
}

func TestAnApplyReachesTheThreads(t *testing.T) {
	d, config, level := openedStub(t)
	config.Log.Level, config.Threads.Poll = slog.LevelError, time.Millisecond
	_, err := d.Apply(config)
	require.NoError(t, err)
	require.Equal(t, slog.LevelError, level.Level())
	require.Equal(t, time.Millisecond, d.guests[0].device.Poll())
}

func TestAnEmptyListInThePlaceOfNoneIsNoChange(t *testing.T) {
	d, config, _ := openedStub(t)
	config.Threads.CPUs = []int{}
	done, err := d.Apply(config)
	require.NoError(t, err)
	require.Empty(t, done.Changed)
}
