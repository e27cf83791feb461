package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/spec"
)

// Each caller adds rules and forwards of its own, others change the poll time and read. Nothing of what anybody has added is lost.
func TestOfSeveralCallersNoneUndoesWhatAnotherHasChanged(t *testing.T) {
	const callers, times = 8, 12
	d, _ := openedNAT(t, 1)
	rule := func(caller, n int) spec.Rule {
		return spec.Rule{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(caller), byte(n)}), 32)}
	}
	path := func(dir string, caller, n int) spec.Forward {
		f, err := spec.ParseForward(fmt.Sprintf("unix:%s/%d-%d:80", dir, caller, n))
		require.NoError(t, err)
		return f
	}
	dir := shortDir(t)
	var wantRules []spec.Rule
	var wantForwards []spec.Forward
	for caller := range callers {
		for n := range times {
			wantRules = append(wantRules, rule(caller, n))
			wantForwards = append(wantForwards, path(dir, caller, n))
		}
	}
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for n := range times {
				_, err := d.Change(func(c *Config) error {
					c.NAT.Rules = append(c.NAT.Rules, rule(caller, n))
					c.NAT.Forwards = append(c.NAT.Forwards, path(dir, caller, n))
					return nil
				})
				require.NoError(t, err)
				_ = d.Config()
				_ = d.Networks()
			}
		})
	}
	all.Go(func() {
		for n := range times {
			_, err := d.Change(func(c *Config) error {
				c.Threads.Poll = time.Duration(n) * time.Microsecond
				return nil
			})
			require.NoError(t, err)
		}
	})
	all.Wait()
	now := d.Config()
	require.ElementsMatch(t, wantRules, now.NAT.Rules)
	require.ElementsMatch(t, wantForwards, now.NAT.Forwards)
	require.ElementsMatch(t, wantForwards, d.guests[0].engine().Forwards())
	require.Equal(t, (times-1)*time.Microsecond, now.Threads.Poll)
}

func TestAChangeThatIsGivenUpChangesNothing(t *testing.T) {
	d, config, level := openedStub(t)
	given := errors.New("given up")
	done, err := d.Change(func(c *Config) error {
		require.Equal(t, config, *c)
		c.Log.Level, c.FrontEnds.SocketPaths[0] = slog.LevelError, "/run/other"
		return given
	})
	require.Equal(t, given, err)
	require.Zero(t, done)
	require.Equal(t, slog.LevelInfo, level.Level())
	require.Equal(t, config, d.Config())
}

// Whoever has changed a configuration may go on to use what it has put there, and what it was given.
func TestAChangedConfigurationIsNobodyElses(t *testing.T) {
	d, _ := openedNAT(t, 1)
	rules := []spec.Rule{{Prefix: netip.MustParsePrefix("192.0.2.1/32")}}
	var kept *Config
	_, err := d.Change(func(c *Config) error {
		c.NAT.Rules, kept = rules, c
		return nil
	})
	require.NoError(t, err)
	rules[0].Allow, kept.NAT.Restrict = true, true
	require.False(t, d.Config().NAT.Rules[0].Allow)
	require.False(t, d.Config().NAT.Restrict)
}
