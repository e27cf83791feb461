package ledger

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vringnet/vring/netbackend/nat/internal/policy"
)

func TestCountsOfARuleOutliveAPolicyThatStillHasIt(t *testing.T) {
	before := newRules([]string{"--allow a", "--deny b"}, nil)
	before.of(0).begun.Add(3)
	before.of(1).denied.Add(2)
	before.of(-1).begun.Add(1)
	after := newRules([]string{"--deny c", "--deny b"}, before)
	require.Equal(t, []Count{{Rule: "--deny c"}, {Rule: "--deny b", Denied: 2}, {Begun: 1}}, after.counts())
	require.Equal(t, Count{Rule: "--deny b", Denied: 2}, after.of(1).read())
	again := newRules([]string{"--allow a"}, after)
	require.Equal(t, []Count{{Rule: "--allow a"}, {Begun: 1}}, again.counts(), "what a rule had that is gone went with it")
}

func TestARuleThatThereIsNotCountsAsNone(t *testing.T) {
	r := newRules([]string{"--allow a"}, nil)
	for _, rule := range []int{-1, 1, 1 << 30} {
		r.of(rule).begun.Add(1)
	}
	require.Equal(t, []Count{{Rule: "--allow a"}, {Begun: 3}}, r.counts())
}

// held agrees with a plain model: each value that is held has a number of its own, and numbers are used again.
func TestValuesAreNumberedAsLongAsTheyAreHeld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h held[string]
		model, most := map[string][]uint32{}, 0
		for _, step := range rapid.SliceOf(rapid.IntRange(0, 9)).Draw(t, "steps") {
			value := fmt.Sprint(step % 5)
			if step < 5 {
				n := h.hold(value)
				for other, numbers := range model {
					require.Equal(t, other == value, len(numbers) > 0 && numbers[0] == n || other == value && len(numbers) == 0)
				}
				model[value] = append(model[value], n)
			} else if numbers := model[value]; len(numbers) > 0 {
				require.Equal(t, value, h.release(numbers[0]))
				model[value] = numbers[1:]
			}
			live := 0
			for _, numbers := range model {
				live += min(len(numbers), 1)
			}
			most = max(most, live)
			require.Equal(t, live, h.len())
			require.LessOrEqual(t, len(h.slots), most)
		}
	})
}

func TestEachVerdictHasAWordOfItsOwn(t *testing.T) {
	seen := map[string]policy.Verdict{}
	for v := policy.Allowed; v <= policy.Held; v++ {
		w := Judged(&policy.Decision{Verdict: v}).Verdict
		require.NotContains(t, seen, w, "%d", v)
		seen[w] = v
	}
}
