package drops

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What is dropped while somebody reads is numbered: the owner would hang here if it waited.
func TestTheOwnerWaitsForNoReader(t *testing.T) {
	var l Log
	l.mu.Lock()
	l.Add(Drop{Time: 1})
	l.mu.Unlock()
	l.Add(Drop{Time: 2})
	require.Equal(t, []Drop{{Time: 2, Left: 1}}, l.Last())
}
