package nat

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestAFlowTableAgreesWithAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := newFlowTable(5000)
		model := map[flowKey]uint32{}
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			key := flowKey{guestPort: uint16(rapid.IntRange(1, 40).Draw(t, "port")), proto: protoTCP}
			f := table.lookup(&key)
			index, known := model[key]
			if known != (f != nil) || (f != nil && f.index != index) {
				t.Fatalf("lookup of %v gave %v, want %v", key, f, index)
			}
			if f == nil {
				f = table.insert(&key)
				f.state = stateOpen
				model[key] = f.index
				continue
			}
			table.unlink(f)
			table.release(f)
			delete(model, key)
		}
		if table.count != len(model) {
			t.Fatalf("%d flows, want %d", table.count, len(model))
		}
	})
}

func TestTheTableGrowsAndFindsEveryFlow(t *testing.T) {
	const n = 20000
	table := newFlowTable(n)
	key := flowKey{proto: protoUDP}
	for i := range n {
		key.guestPort, key.remotePort = uint16(i), uint16(i>>8)
		f := table.insert(&key)
		require.NotNil(t, f)
		f.state = stateUDP
	}
	key.remotePort++
	require.Nil(t, table.insert(&key), "the table is full")
	key.remotePort--
	for i := range n {
		key.guestPort, key.remotePort = uint16(i), uint16(i>>8)
		require.NotNil(t, table.lookup(&key))
	}
	seen := 0
	table.each(func(*flow) { seen++ })
	require.Equal(t, n, seen)
}

func TestAnOldSocketsEventReachesNoNewFlow(t *testing.T) {
	table := newFlowTable(10)
	key := flowKey{guestPort: 1}
	old := table.insert(&key)
	old.state = stateOpen
	index, gen := old.index, old.gen
	require.Same(t, old, table.byIndex(index, gen))
	table.unlink(old)
	require.Nil(t, table.byIndex(index, gen), "it is over")
	table.release(old)
	fresh := table.insert(&key)
	fresh.state = stateOpen
	require.Equal(t, index, fresh.index, "the record is used again")
	require.Nil(t, table.byIndex(index, gen))
	require.Same(t, fresh, table.byIndex(index, fresh.gen))
	require.Nil(t, table.byIndex(0, 0))
	require.Nil(t, table.byIndex(1<<31, 0))
}
