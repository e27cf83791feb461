package counting_test

import (
	"iter"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/counting"
)

// pets is a group that names its counters.
type pets [2]uint64

func (p pets) All() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		_ = yield("black_cats", p[0]) && yield("old_dogs", p[1])
	}
}

func (p pets) Help(name string) string { return "How many " + name + " there are." }

type garden struct {
	Trees uint64 `counter:"apple_trees" kind:"gauge" help:"Trees that stand."`
}

type house struct {
	FramesIn uint64 `counter:"frames_in" unit:"bytes"`
	Pets     pets
	Garden   garden
	Renamed  uint64 `counter:"tcp_flows"`
}

func filled() house { return house{7, pets{1, 2}, garden{5}, 0} }

func TestCountersAreNamedByTheirTagsAndGroupsNameTheirs(t *testing.T) {
	all := counting.All(filled())
	require.Equal(t, map[string]uint64{"frames_in": 7, "black_cats": 1, "old_dogs": 2, "apple_trees": 5, "tcp_flows": 0}, maps.Collect(all))
	var order []string
	for name := range all {
		if order = append(order, name); len(order) == 4 {
			break
		}
	}
	require.Equal(t, []string{"frames_in", "black_cats", "old_dogs", "apple_trees"}, order)
}

func TestDescriptionsAreThoseOfTagsAndGroups(t *testing.T) {
	require.Equal(t, []counting.Description{
		{Name: "frames_in", Unit: counting.Bytes}, {Name: "black_cats", Help: "How many black_cats there are."},
		{Name: "old_dogs", Help: "How many old_dogs there are."}, {Name: "apple_trees", Help: "Trees that stand.", Gauge: true},
		{Name: "tcp_flows"},
	}, counting.Describe(filled()))
}

func TestACounterWithoutANameIsAMistake(t *testing.T) {
	require.PanicsWithValue(t, "counter Nameless of struct { Nameless uint64 } has no name", func() {
		counting.ValuesOf(struct{ Nameless uint64 }{})
	})
}

func TestASourceReadsWhatIsCountedAtThatTime(t *testing.T) {
	h := filled()
	s := counting.From(func() house { return h })
	words := make([]uint64, len(s.Names()))
	s.Read(words)
	require.Equal(t, []uint64{7, 1, 2, 5, 0}, words)
	h.Pets[1], h.Renamed = 3, 9
	s.Read(words)
	require.Equal(t, []uint64{7, 1, 3, 5, 9}, words)
	require.Equal(t, maps.Collect(counting.All(h)), maps.Collect(counting.NewValues(s.Names(), words).All()))
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Read(words) }))
}

func TestValuesFillAStructByTheirNames(t *testing.T) {
	h := house{Renamed: 3} // which becomes 0
	counting.ValuesOf(filled()).Fill(&h)
	require.Equal(t, filled(), h)
	g := garden{1}
	counting.Values{}.Fill(&g)
	require.Equal(t, garden{1}, g)
	counting.ValuesOf(filled()).Fill(&g)
	require.Equal(t, garden{5}, g)
}
