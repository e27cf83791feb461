package netem

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestALinkIsReadAsItIsWritten(t *testing.T) {
	for text, want := range map[string]Link{
		"none":                     {},
		"delay=40ms":               both(Direction{Delay: 40 * time.Millisecond}),
		"rate=1.5mbit,delay=1.5s":  both(Direction{Rate: 1_500_000, Delay: 1500 * time.Millisecond}),
		"in:loss=1%,out:loss=0.5%": {In: Direction{Loss: whole / 100}, Out: Direction{Loss: whole / 200}},
		"in:rate=512kbit,in:burst=64KiB,in:queue=7,in:queue-bytes=2MiB,seed=5": {
			In: Direction{Rate: 512_000, Burst: 65536, Queue: 7, QueueBytes: 2 << 20}, Seed: 5},
		"gemodel=1%/20%":                      both(Direction{Gilbert: GilbertElliott{whole / 100, whole / 5, whole, 0}}),
		"gemodel=1%/20%/30%/0.0000001%":       both(Direction{Gilbert: GilbertElliott{whole / 100, whole / 5, whole / 10 * 3, 1}}),
		"loss=3%,loss-burst=4,corrupt=100%":   both(Direction{Loss: whole / 100 * 3, LossBurst: 4, Corrupt: whole}),
		"delay=9ms,jitter=9ms,duplicate=2%":   both(Direction{Delay: 9e6, Jitter: 9e6, Duplicate: whole / 50}),
		"reorder=2%,reorder-by=1ms,delay=2ms": both(Direction{Reorder: whole / 50, ReorderBy: 1e6, Delay: 2e6}),
		"lte,in:rate=20mbit":                  {In: Direction{Rate: 20e6, Delay: 35e6}, Out: Direction{Rate: 12e6, Delay: 35e6}},
		"lte,delay=0s":                        both(Direction{Rate: 12e6}),
		"rate=117bit,rate=1kbit":              {},
	} {
		got, err := Parse(text)
		if strings.Contains(text, "117bit") {
			require.ErrorContains(t, err, "rate is given twice")
			continue
		}
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		again, err := Parse(got.String())
		require.NoError(t, err, got.String())
		require.Equal(t, got, again)
	}
	require.Equal(t, "in:rate=1500kbit,out:rate=384kbit,delay=25ms", Presets()[1].Link.String())
}

func TestWhatCannotBeIsToldWithTheValueAndTheCure(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "an item of the link is empty; want " + Form,
		"delay=40ms,":               "an item of the link is empty",
		"wimax":                     `"wimax" is no preset, nor KEY=VALUE; presets are lan, dsl, lte, edge, satellite`,
		"delay=1ms,lte":             "lte is a preset, which stands before all else; write it first",
		"latency=40ms":              `a link has no "latency"; it has rate, burst, delay`,
		"delay=40":                  `delay="40": want a time, as in 40ms or 1.5s`,
		"delay=-1s":                 `delay="-1s": want a time`,
		"delay=61s":                 "delay=1m1s: want 0s to 1m0s",
		"delay=1ms,jitter=2ms":      "jitter=2ms is more than delay=1ms, and no frame is there before it was sent; write a longer delay",
		"loss=1":                    `loss="1": want a share of frames with %, as in 1% or 0.5%`,
		"loss=101%":                 `loss="101%": want a share of frames`,
		"loss=-1%":                  `loss="-1%": want a share of frames`,
		"loss=1%,gemodel=1%/2%":     "loss and gemodel exclude each other; write one of them",
		"loss-burst=5":              "loss-burst=5 needs a loss between 0% and 100%; write loss=1%, say",
		"loss=90%,loss-burst=5":     "loss=90% with loss-burst=5 cannot be",
		"loss=1%,loss-burst=1001":   "loss-burst=1001: want 1 to 1000 frames",
		"gemodel=1%":                `gemodel="1%": want the chances to get bad and to get good`,
		"gemodel=0%/1%":             "gemodel=0%/1%/100%/0% never gets bad; write a first chance above 0%",
		"rate=10":                   `rate="10": want a number of bits per second with kbit, mbit or gbit`,
		"rate=0.5bit":               `rate="0.5bit": want a number of bits`,
		"rate=999bit":               "rate=999bit: want 1kbit to 100gbit",
		"rate=101gbit":              "rate=101gbit: want 1kbit to 100gbit",
		"rate=99999999999999gbit":   `rate="99999999999999gbit": want`,
		"burst=1MiB":                "burst=1MiB needs a rate; write rate=10mbit, say",
		"rate=1mbit,burst=65MiB":    "burst=68157440: want 0 to 64MiB",
		"queue=5":                   "a queue needs a rate, since frames wait for nothing else; write rate=10mbit, say",
		"rate=1mbit,queue=0":        `queue="0": want a number of frames, as in 100`,
		"rate=1mbit,queue=100001":   "queue=100001: want 1 to 100000 frames",
		"rate=1mbit,queue-bytes=5":  "queue-bytes=5: want 2048 to 64MiB",
		"reorder-by=1ms":            "reorder-by=1ms needs a share of frames; write reorder=1%, say",
		"rate=100gbit,delay=1s":     "rate=100gbit for 1s, with the queue, is 11922 MiB under way, and 64 is the most; write a lower rate, a shorter delay or a shorter queue",
		"rate=5bit,delay=2h":        "rate=5bit: want 1kbit to 100gbit; delay=2h0m0s: want 0s to 1m0s",
		"in:rate=5bit,out:delay=2h": "in:rate=5bit: want 1kbit to 100gbit",
		"in:seed=5":                 "seed is one for both directions; write it without in: or out:",
		"seed=0":                    `seed="0": want a number from 1`,
		"delay=1ms,in:delay=2ms":    "delay is given twice; write it once, or once with in: and once with out: before it",
		strings.Repeat("a", 1025):   "the link has 1025 characters, and 1024 is the most",
		strings.Repeat("a", 99):     strings.Repeat("a", 40) + `..."`,
	} {
		_, err := Parse(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestPresetsAreRight(t *testing.T) {
	for _, p := range Presets() {
		require.NoError(t, p.Link.Check(), p.Name)
		require.NotEmpty(t, p.About)
		require.NotEmpty(t, p.Source)
		got, err := Parse(p.Name)
		require.NoError(t, err)
		require.Equal(t, p.Link, got)
	}
}

func TestEveryLinkThatIsRightCanBeWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Link{Out: drawDirection(t), In: drawDirection(t)}
		if l.Check() != nil || l.IsZero() {
			t.Skip("it is none")
		}
		l.Seed = rapid.Uint64().Draw(t, "seed")
		got, err := Parse(l.String())
		if err != nil || got != l {
			t.Fatalf("%v is written %s and read %v: %v", l, l, got, err)
		}
	})
}

// A link that is read is one that can be, is written, and takes no more memory than there may be.
func FuzzParse(f *testing.F) {
	for _, p := range Presets() {
		f.Add(p.Name)
		f.Add(p.Link.String())
	}
	for _, text := range []string{"none", "in:rate=1.5gbit,out:burst=2KiB", "gemodel=1%/2%/3%/4%,seed=18446744073709551615", "loss=0.0000001%,loss-burst=1000", "delay=1h", "rate=100gbit,queue=100000"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := Parse(text)
		if err != nil {
			if len(err.Error()) > 4<<10 {
				t.Fatalf("the error has %d bytes", len(err.Error()))
			}
			return
		}
		again, err := Parse(l.String())
		if err != nil || again != l && !l.IsZero() {
			t.Fatalf("%q is written %q, and read %v: %v", text, l, again, err)
		}
		for _, d := range []*Direction{&l.In, &l.Out} {
			if n := d.storeBytes(); n < minStore || n > maxStore {
				t.Fatalf("%q takes %d bytes", text, n)
			}
			d.model()
			if d.Rate != 0 {
				d.pace().cost(longest)
			}
		}
	})
}
