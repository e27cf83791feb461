package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/daemon"
)

// ownFlags are those that say how the command prints; the rest is what the daemon is configured by.
func ownFlags() []string { return []string{"help", "print-capabilities"} }

// optionsBelow returns the fields that a command can set by their options: what all networks have, and its own.
func optionsBelow(network string) map[string]daemon.Field {
	options := map[string]daemon.Field{}
	for _, f := range daemon.Fields() {
		of, _, _ := strings.Cut(f.Path, ".")
		if of == "Switches" && (network == "NAT" || network == "Switch") {
			options["switch-uplink"] = f
		}
		if of == "Guests" || of == "Switches" {
			continue // flags are for guests that share a network, and say all of their switch
		}
		besideNAT := network == "NAT" && f.Path == "Switch.Name"
		if slices.Contains([]string{"NAT", "TAP", "Switch", "Stub"}, of) && of != network && !besideNAT {
			continue
		}
		for _, o := range f.Options {
			if _, found := options[string(o)]; !found {
				options[string(o)] = f
			}
		}
	}
	return options
}

func TestEachFlagIsAnOptionOfTheConfigurationWithItsDefault(t *testing.T) {
	for network, cmd := range map[string]*cobra.Command{"NAT": newNAT(), "TAP": newTAP(), "Switch": newSwitch(), "Stub": newStub()} {
		options := optionsBelow(network)
		cmd.InitDefaultHelpFlag()
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if slices.Contains(ownFlags(), f.Name) {
				return
			}
			field, found := options[f.Name]
			require.True(t, found, "vring %s --%s", cmd.Name(), f.Name)
			if shown := strings.Trim(shownDefault(f), `"`); shown != "" && f.Name != "fd" {
				require.Equal(t, field.Default, shown, "--%s", f.Name)
			}
			delete(options, f.Name)
		})
		require.Empty(t, options, "of vring %s: options without a flag", cmd.Name())
	}
}

func TestErrorsAreSpelledAsOneWritesThem(t *testing.T) {
	c := daemon.Config{FrontEnds: daemon.FrontEnds{Client: true, FD: new(int)}, Stub: &daemon.Stub{Mode: daemon.StubNull}}
	_, err := c.Check()
	require.EqualError(t, wrongUse(err), "--client needs --socket-path")
	lost := errors.Join(&daemon.LostError{Err: errors.New("TAP device tap0 is gone")}, errors.New("another"))
	require.EqualError(t, spell(lost), "TAP device tap0 is gone; with --reopen vring waits for the device to come back\nanother")
}
