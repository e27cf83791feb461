package shard

import "sync/atomic"

// Standing is where a flow stands in the words of its protocol, which the shard does not know: 0 for nowhere, and below MaxStandings.
type Standing uint8

// MaxStandings is how many standings there can be.
const MaxStandings = 16

// standings is how many flows of a guest stand where.
type standings [MaxStandings]atomic.Int32

// Stand takes note of where a flow stands from now on. It is for the flow's owner, whenever that changes. A flow that is over stands nowhere by itself.
func (t *Table) Stand(f *Flow, s Standing) {
	t.standings[f.standing].Add(-1)
	t.standings[s].Add(1)
	f.standing = s
}

// Standing returns how many flows stand somewhere, whatever queue pair they belong to. Anybody may call it at any time.
func (t *Table) Standing(s Standing) int { return int(t.standings[s].Load()) }
