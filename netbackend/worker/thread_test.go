package worker

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
)

func TestAThreadIsForTheTimeOfAFunctionThatDoRuns(t *testing.T) {
	p := &port{}
	d, err := New(Config{Ports: []netbackend.Port{p}})
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	var kept *Thread
	require.NoError(t, d.Do(0, func(thread *Thread) {
		kept = thread
		require.Same(t, p, thread.Port())
	}))
	require.Panics(t, func() { kept.Stats() })
	require.Panics(t, func() { kept.Port() })
}

func TestWhatAThreadHasCountedIsThereAfterItsEnd(t *testing.T) {
	p := &port{}
	d, err := New(Config{Ports: []netbackend.Port{p}})
	require.NoError(t, err)
	require.NoError(t, d.SetMTU(1400))
	require.NoError(t, d.Close())
	require.NoError(t, d.Do(0, func(thread *Thread) {
		require.Positive(t, thread.Stats().Turns)
		require.True(t, thread.Port().(*port).closed)
	}))
}
