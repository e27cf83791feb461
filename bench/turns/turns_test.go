package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEveryRowHasTurnsThatCarryItsFrames(t *testing.T) {
	for _, r := range rows() {
		t.Run(r.Name, func(t *testing.T) {
			s := r.start(t) // a turn with other frames is fatal
			turns := 0
			for range 40 { // more often than receive rings have buffers for
				s(func(turn func()) { turn(); turns++ })
			}
			require.Equal(t, 40, turns, "one turn for each call")
			require.Positive(t, r.Frames)
		})
	}
}

func TestProgramAnswersEachLine(t *testing.T) {
	var out strings.Builder
	err := newPlayer(t).obeyAll(strings.NewReader("rows\ntime\tstub null\t5ms\n"), &out)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 2)
	var all []row
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &all))
	require.Len(t, all, len(rows()))
	var got timing
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &got))
	require.Positive(t, got.Turns)
	require.Positive(t, got.Time)
}

func TestProgramRefusesLinesThatItDoesNotKnow(t *testing.T) {
	for line, want := range map[string]string{
		"":                       "not a line",
		"time\tstub null":        "not a line",
		"sing\tempty\t1":         "not a line",
		"time\tnothing\t1s":      `no row "nothing"`,
		"time\tempty\t0s":        "above 0",
		"time\tempty\t10h":       "at most 1m0s",
		"step\tempty\t0":         "between 1 and",
		"step\tempty\t100000000": "between 1 and",
	} {
		err := newPlayer(t).obeyAll(strings.NewReader(line+"\n"), &strings.Builder{})
		require.ErrorContains(t, err, want, line)
	}
}
