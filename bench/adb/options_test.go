package adb

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheCommandLineIsRead(t *testing.T) {
	opt, err := parseOptions([]string{"--rounds", "7", "--guests", "2,16", "--out", "/tmp/x"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, options{rounds: 7, guests: []int{2, 16}, out: "/tmp/x"}, opt)
	opt, err = parseOptions(nil, io.Discard)
	require.NoError(t, err)
	require.Equal(t, 3, opt.rounds)
	require.Equal(t, []int{4, 8}, opt.guests)
	require.NotEmpty(t, opt.out)
}

func TestWhatIsWrongInTheCommandLineIsNamed(t *testing.T) {
	for want, args := range map[string][]string{
		`unknown argument "now"`:             {"now"},
		"--rounds 0: 1 to 100":               {"--rounds", "0"},
		"--rounds 101: 1 to 100":             {"--rounds=101"},
		"--guests 1: 2 to 16; one guest is":  {"--guests", "4,1"},
		"--guests 17: 2 to 16; one guest is": {"--guests", "17"},
		"unknown flag: --guest":              {"--guest", "4"},
	} {
		_, err := parseOptions(args, io.Discard)
		require.ErrorContains(t, err, want)
	}
}
