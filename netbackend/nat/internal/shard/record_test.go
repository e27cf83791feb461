package shard

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheHostOfAFlowCostsItsRecordNothing(t *testing.T) {
	record := reflect.TypeFor[Flow]()
	at := func(name string) uintptr {
		field, found := record.FieldByName(name)
		require.True(t, found)
		return field.Offset
	}
	require.Equal(t, at("IPLen")+1, at("Host"))
	require.EqualValues(t, 40, at("Index"), "it stands where the compiler would leave a byte unused")
}

// What all flows have, beside their entry in the table (52 bytes) and their timer (24).
func TestTheRecordOfAFlowIsNoLargerThanItHasToBe(t *testing.T) {
	require.LessOrEqual(t, reflect.TypeFor[Flow]().Size(), uintptr(104))
}
