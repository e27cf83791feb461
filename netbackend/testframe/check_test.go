package testframe_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/testframe"
)

// frames gives a Checker frames of 100 bytes with these numbers, all of one stream.
func frames(c *testframe.Checker, stream uint32, numbers ...uint64) {
	for _, n := range numbers {
		b := make([]byte, 100)
		testframe.Put(b, n, 7, stream)
		h := testframe.Parse(b)
		c.Take(&h, len(b))
	}
}

func TestWhatBecomesOfFramesIsFound(t *testing.T) {
	many := func(from, n uint64) (all []uint64) {
		for i := range n {
			all = append(all, from+i)
		}
		return all
	}
	for name, c := range map[string]struct {
		numbers []uint64
		want    testframe.Counts
	}{
		"all come":                          {many(0, 10_000), testframe.Counts{Tested: 10_000}},
		"the first are not awaited":         {[]uint64{77, 78}, testframe.Counts{Tested: 2}},
		"some are missing":                  {[]uint64{0, 1, 5, 6, 9}, testframe.Counts{Tested: 5, Missing: 5}},
		"one is late":                       {[]uint64{0, 2, 1, 3}, testframe.Counts{Tested: 4, Missing: 1, Late: 1}},
		"one comes twice":                   {[]uint64{0, 1, 1, 2}, testframe.Counts{Tested: 4, Duplicates: 1}},
		"one comes late, and again":         {[]uint64{0, 2, 1, 1}, testframe.Counts{Tested: 4, Missing: 1, Late: 1, Duplicates: 1}},
		"an old one comes again":            {append(many(0, 5000), 1000), testframe.Counts{Tested: 5001, Duplicates: 1}},
		"one comes too late to be known":    {append(many(0, 10_000), 1000), testframe.Counts{Tested: 10_001, Late: 1}},
		"one is late after a turn of words": {append(append(many(0, 5000), many(5001, 4000)...), 5000), testframe.Counts{Tested: 9001, Missing: 1, Late: 1}},
		"a long row is missing":             {[]uint64{0, 10_000, 9_999}, testframe.Counts{Tested: 3, Missing: 9_999, Late: 1}},
		"a number that cannot be meant":     {[]uint64{0, 1 << 60, 1<<60 + 1}, testframe.Counts{Tested: 3}},
		"the last number there is":          {[]uint64{1<<64 - 1, 0, 1}, testframe.Counts{Tested: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			var checker testframe.Checker
			frames(&checker, 5, c.numbers...)
			require.Equal(t, c.want, checker.Counts)
		})
	}
}

func TestStreamsAreToldApart(t *testing.T) {
	var c testframe.Checker
	for n := range uint64(1000) {
		for stream := range uint32(8) {
			frames(&c, stream, n+uint64(stream)*100)
		}
	}
	require.Equal(t, testframe.Counts{Tested: 8000}, c.Counts)
	for n := range uint64(1000) { // more of them only cost counts that mean nothing
		frames(&c, uint32(n), n)
	}
	require.EqualValues(t, 9000, c.Tested)
}

func TestADamagedHeaderIsFound(t *testing.T) {
	var c testframe.Checker
	b := make([]byte, 100)
	for bit := range 8 * (testframe.End - testframe.NumberAt) {
		testframe.Put(b, rand.Uint64(), rand.Uint64(), rand.Uint32())
		b[testframe.NumberAt+bit/8] ^= 1 << (bit % 8)
		h := testframe.Parse(b)
		require.False(t, c.Take(&h, len(b)), "bit %d", bit)
	}
	testframe.Put(b, 1, 2, 3)
	h := testframe.Parse(b)
	require.False(t, c.Take(&h, 99), "cut")
	require.True(t, c.Take(&h, 100))
	require.Equal(t, testframe.Counts{Tested: 1, Corrupt: 8*32 + 1}, c.Counts)
}

// Against a plain model that remembers all: whatever order frames come in, and whatever is missing or comes again.
func TestCountsAreThoseOfAPlainModel(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		var order []uint64
		for n := range uint64(3000) {
			for range [...]int{1, 1, 1, 1, 1, 1, 0, 2}[random.IntN(8)] {
				order = append(order, n)
			}
		}
		for range 500 {
			i := random.IntN(len(order) - 200)
			j := i + random.IntN(200)
			order[i], order[j] = order[j], order[i]
		}
		var c testframe.Checker
		frames(&c, 1, order...)
		seen := map[uint64]bool{}
		want := testframe.Counts{}
		next := order[0]
		for _, n := range order {
			want.Tested++
			switch {
			case n >= next:
				want.Missing += n - next
				next = n + 1
			case seen[n]:
				want.Duplicates++
			default:
				want.Late++
			}
			seen[n] = true
		}
		require.Equal(t, want, c.Counts, "seed %d", seed)
	}
}

func FuzzTake(f *testing.F) {
	f.Add(uint64(0), uint64(1), uint32(5), uint64(1<<63), 100)
	f.Fuzz(func(t *testing.T, first, second uint64, stream uint32, bits uint64, length int) {
		var c testframe.Checker
		frames(&c, stream, first, second, first)
		h := testframe.Header{Number: first, Stamp: second, Stream: bits, Check: uint64(stream)}
		c.Take(&h, length)
		require.EqualValues(t, 4, c.Tested+c.Corrupt)
		require.LessOrEqual(t, c.Late+c.Duplicates, c.Tested)
		require.LessOrEqual(t, c.Missing, uint64(3<<24))
	})
}
