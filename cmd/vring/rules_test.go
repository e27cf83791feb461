package main

import (
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

func TestRulesKeepTheirOrderAcrossFlags(t *testing.T) {
	var texts ruleTexts
	f := pflag.NewFlagSet("vring nat", pflag.ContinueOnError)
	texts.add(f)
	require.NoError(t, f.Parse([]string{"--deny", "192.0.2.9", "--allow", "192.0.2.0/24:443", "--deny=tcp:0.0.0.0/0:1-1023"}))
	rules, err := texts.parse()
	require.NoError(t, err)
	require.Len(t, rules, 3)
	for i, want := range []struct {
		allow bool
		text  string
	}{{false, "192.0.2.9/32"}, {true, "192.0.2.0/24:443"}, {false, "tcp:0.0.0.0/0:1-1023"}} {
		require.Equal(t, want.allow, rules[i].Allow)
		require.Equal(t, want.text, rules[i].String())
	}
}
