package configfile

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/daemon"
)

// configOf reads the configuration of a file of one guest.
func configOf(t *testing.T, text string) *daemon.Config {
	t.Helper()
	f, err := Parse("f", []byte("guests: [{socket-path: /s}]\n"+text), noGroups)
	require.NoError(t, err)
	return &f.Config
}

func TestDifferencesAreToldByKeys(t *testing.T) {
	for name, c := range map[string]struct {
		before, after string
		want          []Difference
	}{
		"none": {"nat:\n  forwards: []\n", "nat:\n  mtu: 1500\n", nil},
		"values": {"poll-us: 1\nnat:\n  mtu: 1400\n", "log-level: debug\npoll-us: 1\nnat:\n", []Difference{
			{Key: "log-level", Removed: []string{"info"}, Added: []string{"debug"}},
			{Key: "mtu", Removed: []string{"1400"}, Added: []string{"1500"}},
		}},
		"lists": {
			"nat:\n  forwards: ['1:2', '3:4']\n  rules: [{deny: 192.0.2.0/24}, {allow: 198.51.100.1}, {deny: '[2001:db8::]:1-2'}]\n",
			"nat:\n  forwards: ['3:4', 'unix:/a b:5']\n  rules: [{allow: 198.51.100.1}, {deny: 192.0.2.0/24}]\n", []Difference{
				{Key: "forwards", Removed: []string{"tcp:127.0.0.1:1:2"}, Added: []string{"unix:/a b:5"}},
				{Key: "rules", Removed: []string{"deny: [2001:db8::/128]:1-2"}, Moved: true},
			},
		},
		"what comes twice": {"nat:\n  dns: [192.0.2.1, 192.0.2.1]\n", "nat:\n  dns: [192.0.2.1]\n", []Difference{
			{Key: "dns", Removed: []string{"192.0.2.1:53"}},
		}},
		"networks": {"stub:\n", "nat:\n", []Difference{{Key: "nat", Added: []string{"nat"}}, {Key: "stub", Removed: []string{"stub"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, Diff(configOf(t, c.before), configOf(t, c.after)))
		})
	}
}

func TestWhatAnotherConfigurationUndoesIsTold(t *testing.T) {
	const file = "nat:\n  forwards: ['1:2', '3:4']\n"
	const running = "log-level: debug\nnat:\n  forwards: ['3:4', '5:6', '7:8']\n  rules: [{deny: 192.0.2.1}]\n"
	for name, c := range map[string]struct {
		next string
		want []Difference
	}{
		"the same file": {file, []Difference{
			{Key: "log-level", Removed: []string{"info"}, Added: []string{"debug"}},
			{Key: "forwards", Removed: []string{"tcp:127.0.0.1:1:2"}, Added: []string{"tcp:127.0.0.1:5:6", "tcp:127.0.0.1:7:8"}},
			{Key: "rules", Added: []string{"deny: 192.0.2.1/32"}},
		}},
		"a file that has some of it": {"log-level: warn\nnat:\n  forwards: ['3:4', '7:8', '9:10']\n  rules: [{deny: 192.0.2.1}]\n", []Difference{
			{Key: "log-level", Added: []string{"debug"}},
			{Key: "forwards", Added: []string{"tcp:127.0.0.1:5:6"}},
		}},
		"a file that has all of it": {running, nil},
		"more of the same":          {running + "  dns: [192.0.2.1]\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, Undone(configOf(t, file), configOf(t, running), configOf(t, c.next)))
		})
	}
}
