package adb

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/bench/adb/errand"
)

func TestTheDocumentTellsBothWaysSideBySide(t *testing.T) {
	d := &document{Rounds: 3}
	for _, v := range []float64{100, 200, 400} {
		d.add(upload, chain, v)
		d.add(upload, direct, 10*v)
	}
	d.learn("killed guest", direct, errand.Lesson{What: "reset", Took: 1500 * time.Microsecond})
	d.learn("killed adb server", direct, errand.Lesson{What: errand.Nothing, Took: 3 * time.Second})
	d.learn("killed adb server", "other", errand.Lesson{What: errand.Lives})
	d.learn("killed guest", chain, errand.Lesson{What: "end of stream", Took: 2 * time.Millisecond})
	require.InDelta(t, 10, d.Rows[0].Ratio.Median, 1e-9)

	var text, svg strings.Builder
	require.NoError(t, d.WriteMarkdown(&text))
	require.Contains(t, text.String(), "| to the guest, MB/s | 200 (100–400) | 2000 (1000–4000) | 10.00 (10.00–10.00) |")
	require.Contains(t, text.String(), `| killed guest | adb | end of stream, 2.0 (2.0–2.0) ms |
| killed guest | vring | reset, 1.5 (1.5–1.5) ms |
| killed adb server | other | the connection lives |
| killed adb server | vring | nothing within 3s |
`)
	require.NoError(t, d.WriteSVG(&svg))
	require.Contains(t, svg.String(), "to the guest")
}

func TestDifferentLessonsAreAllTold(t *testing.T) {
	l := lessons{Lessons: []errand.Lesson{{What: "reset", Took: time.Millisecond}, {What: "end of stream", Took: 3 * time.Millisecond}}}
	require.Equal(t, "reset or end of stream, 2.0 (1.0–3.0) ms", l.String())
}

func TestTheCommandRefusesNonsense(t *testing.T) {
	for _, args := range [][]string{{"--rounds", "0"}, {"--rounds", "101"}, {"something"}, {"--unknown"}, {"--guests", "1"}, {"--guests", "4,17"}} {
		require.Error(t, Run(t.Context(), args, &strings.Builder{}, &strings.Builder{}), args)
	}
}
