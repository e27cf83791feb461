package shard

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// begin returns how many of tries flows may begin at a time.
func (n *NewFlows) begin(now int64, tries int) (begun int) {
	for range tries {
		if n.take(now) {
			begun++
		}
	}
	return begun
}

// newFlowsOf returns those of so many guests of a process, by the default configuration.
func newFlowsOf(t *testing.T, guests int) []NewFlows {
	t.Helper()
	limits := UsualKernelLimits().Among(guests)
	all := make([]NewFlows, guests)
	for i := range all {
		all[i].fill(&limits)
	}
	return all
}

func TestGuestsTogetherHaveARateForNewFlowsAndEachItsShare(t *testing.T) {
	const guests, burst, rate, now = 4, 16384, 500, int64(1e9)
	all := newFlowsOf(t, guests)
	require.Equal(t, burst, all[0].begin(now, 2*burst), "one guest may use all that is its own")
	require.Equal(t, burst/2, all[1].begin(now, 2*burst), "its share, and what is left of the common part")
	for i := range all[2:] {
		require.Equal(t, burst/guests, all[2+i].begin(now, 2*burst), "what others do takes nothing of a share")
	}
	sum := 0
	for i := range all {
		sum += all[i].begin(now+int64(time.Second), burst)
	}
	require.Equal(t, 2*rate, sum)
}

func TestWhatIsGivenBackIsNoMoreThanWasTaken(t *testing.T) {
	const guests, now = 4, int64(1e9)
	all := newFlowsOf(t, guests)
	n := &all[0]
	require.Equal(t, 16384, n.begin(now, 20000))
	for range 16384 {
		n.giveBack(now)
	}
	n.giveBack(now) // of a flow that was begun long ago
	sum := n.begin(now, 20000) + all[1].begin(now, 20000) + all[2].begin(now, 20000) + all[3].begin(now, 20000)
	require.LessOrEqual(t, sum, 2*16384-16384*(guests-1)/guests, "what was taken of the common part stays taken")
}

func TestAFrameThatComesAgainIsCountedOnce(t *testing.T) {
	limits := KernelLimits{UnansweredFlows: 1}.Among(1)
	p := &Turn{Shard: Shard{Pairs: &Pairs{}}, Now: 1e9}
	p.Pairs.NewFlows.fill(&limits)
	for range 3 {
		require.True(t, p.MayBegin())
		p.Began(nil, Elsewhere) // another queue pair has the flow
	}
	require.True(t, p.MayBegin())
	f := new(Flow)
	p.Began(f, Here)
	require.False(t, p.Pairs.NewFlows.take(p.Now))
	p.WasAnswered(f)
	require.True(t, p.Pairs.NewFlows.take(p.Now))
}
