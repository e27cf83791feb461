package counting

import (
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// torn reports whether counters are not all those of one copy.
func torn(words []uint64) bool {
	return slices.ContainsFunc(words, func(w uint64) bool { return w != words[0] })
}

func fill(words []uint64, n uint64) []uint64 {
	for i := range words {
		words[i] = n
	}
	return words
}

func TestReadersSeeWholeSetsOnlyAndNoneOlderThanBefore(t *testing.T) {
	const counters, copies, readers = 40, 5_000, 2
	p := NewPublished(counters)
	var done sync.WaitGroup
	for range readers {
		done.Go(func() {
			words, last := make([]uint64, counters), uint64(0)
			for last < copies {
				if !p.Read(words) {
					continue
				}
				if torn(words) || words[0] < last {
					t.Errorf("after %d: %v", last, words)
					return
				}
				last = words[0]
			}
		})
	}
	words := make([]uint64, counters)
	for n := range uint64(copies) {
		p.Publish(fill(words, n+1))
	}
	done.Wait()
}

// halfway begins a copy and writes its first counters, as an owner that the kernel has stopped in the middle.
func halfway(p *Published, words []uint64) (finish func()) {
	n := p.begun.Add(1)
	into, half := p.copies[n%2], len(words)/2
	for i, w := range words[:half] {
		into[i].Store(w)
	}
	return func() {
		for i, w := range words[half:] {
			into[half+i].Store(w)
		}
		p.done.Store(n)
	}
}

func TestAReaderDoesNotWaitForAnOwnerThatIsStuckInTheMiddle(t *testing.T) {
	p, words := NewPublished(4), make([]uint64, 4)
	p.Publish([]uint64{1, 1, 1, 1})
	finish := halfway(p, []uint64{2, 2, 2, 2})
	require.True(t, p.Read(words))
	require.Equal(t, []uint64{1, 1, 1, 1}, words)
	finish()
	require.True(t, p.Read(words))
	require.Equal(t, []uint64{2, 2, 2, 2}, words)
}

// What an owner does between a reader's look at the number of copies, its reading, and its second look is any number of whole
// copies and halves. A reader that says that its set is whole is right.
func TestASetThatWasOvertakenIsNotTakenForWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const counters = 4
		p, owner, words := NewPublished(counters), make([]uint64, counters), make([]uint64, counters)
		var n uint64
		var finish func()
		step := func(label string) {
			for range rapid.IntRange(0, 3).Draw(t, label) {
				if finish != nil {
					finish()
					finish = nil
					continue
				}
				n++
				finish = halfway(p, fill(owner, n))
			}
		}
		step("before")
		seen := p.done.Load()
		for i := range words {
			step("between")
			words[i] = p.copies[seen%2][i].Load()
		}
		if p.isWhole(seen) {
			require.Equal(t, fill(make([]uint64, counters), seen), words)
		}
	})
}

func TestReadingGivesUp(t *testing.T) {
	p := NewPublished(1)
	p.begun.Store(2) // and the first is not whole
	require.False(t, p.Read(make([]uint64, 1)))
}
