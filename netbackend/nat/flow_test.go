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
				f, _ = table.insert(&key, 1, udpFlow{})
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
		f, _ := table.insert(&key, 1, udpFlow{})
		require.NotNil(t, f)
		f.state = stateUDP
	}
	key.remotePort++
	f, at := table.insert(&key, 1, udpFlow{})
	require.Nil(t, f, "the table is full")
	require.Equal(t, nowhere, at)
	key.remotePort--
	for i := range n {
		key.guestPort, key.remotePort = uint16(i), uint16(i>>8)
		require.NotNil(t, table.lookup(&key))
	}
	seen := 0
	table.each(1, func(*flow) { seen++ })
	require.Equal(t, n, seen)
}

func TestAnOldSocketsEventReachesNoNewFlow(t *testing.T) {
	table := newFlowTable(10)
	key := flowKey{guestPort: 1}
	old, _ := table.insert(&key, 1, udpFlow{})
	old.state = stateOpen
	index, gen := old.index, old.gen
	require.Same(t, old, table.byIndex(index, gen, 1))
	table.unlink(old)
	require.Nil(t, table.byIndex(index, gen, 1), "it is over")
	table.release(old)
	fresh, _ := table.insert(&key, 1, udpFlow{})
	fresh.state = stateOpen
	require.Equal(t, index, fresh.index, "the record is used again")
	require.Nil(t, table.byIndex(index, gen, 1))
	require.Same(t, fresh, table.byIndex(index, fresh.gen, 1))
	require.Nil(t, table.byIndex(0, 0, 1))
	require.Nil(t, table.byIndex(1<<31, 0, 1))
}
