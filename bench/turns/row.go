package main

import (
	"slices"
	"testing"
)

// A row is a kind of turn.
type row struct {
	Name   string `json:"name"`
	Frames int    `json:"frames"` // that a turn carries
	// start returns a stage for the row. What goes wrong is fatal to t.
	start func(t testing.TB) stage
}

// A stage gets everything ready for a turn, calls measure with the turn and cleans up behind it. The turns are all alike.
type stage func(measure func(turn func()))

// rows returns all rows.
func rows() []row {
	return slices.Concat(stubRows(), natRows(), streamRows())
}

// findRow returns the row with that name.
func findRow(name string) (row, bool) {
	for _, r := range append(rows(), emptyRow()) {
		if r.Name == name {
			return r, true
		}
	}
	return row{}, false
}

// emptyRow has a turn that does nothing. What it takes is the price of measuring.
func emptyRow() row {
	return row{Name: "empty", start: func(testing.TB) stage {
		return func(measure func(func())) { measure(func() {}) }
	}}
}
