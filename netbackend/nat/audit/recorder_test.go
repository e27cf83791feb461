package audit

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// take returns all that a Recorder has.
func take(r *Recorder) (all []Entry) {
	into := make([]Entry, 3)
	for {
		n := r.Take(into)
		if n == 0 {
			return all
		}
		all = append(all, into[:n]...)
	}
}

func recorder(room int) (*Recorder, chan struct{}) {
	wake := make(chan struct{}, 1)
	return NewRecorder(room, wake, func() time.Time { return time.Time{}.Add(time.Hour) }), wake
}

func TestEntriesAreTakenInTheirOrder(t *testing.T) {
	r, wake := recorder(8)
	require.Empty(t, take(r))
	for round := range 5 {
		for i := range 7 {
			r.Record(Entry{Name: fmt.Sprint(round, i), Kind: Begun})
		}
		require.Len(t, wake, 1, "the reader is woken")
		<-wake
		all := take(r)
		require.Len(t, all, 7)
		for i, e := range all {
			require.Equal(t, fmt.Sprint(round, i), e.Name)
			require.Equal(t, time.Time{}.Add(time.Hour), e.Time)
		}
	}
	require.Zero(t, r.Lost())
}

func TestAFullQueueLosesWhatIsNewAndCountsIt(t *testing.T) {
	r, _ := recorder(8)
	for i := range 20 {
		r.Record(Entry{Name: fmt.Sprint(i)})
	}
	require.EqualValues(t, 12, r.Lost())
	all := take(r)
	require.Len(t, all, 8)
	require.Equal(t, "7", all[7].Name)
	r.Record(Entry{Name: "after"})
	require.Equal(t, "after", take(r)[0].Name, "it goes on")
}

func TestANilRecorderCostsNothing(t *testing.T) {
	var r *Recorder
	require.False(t, r.IsOn())
	require.Zero(t, testing.AllocsPerRun(100, func() { r.Record(Entry{Name: "x"}) }))
}

func TestRecordingAllocatesNothing(t *testing.T) {
	r, _ := recorder(8)
	into := make([]Entry, 8)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		r.Record(Entry{Name: "x"})
		r.Take(into)
	}))
}

func TestNamesOfAnyLengthAreCut(t *testing.T) {
	r, _ := recorder(8)
	r.Record(Entry{Name: strings.Repeat("n", 1<<20), Detail: strings.Repeat("d", 1<<20)})
	e := take(r)[0]
	require.Len(t, e.Name, MaxName)
	require.Len(t, e.Detail, MaxName)
}

// Each of several threads is heard in its own order, and what is not heard is counted.
func TestSeveralThreadsRecordAtOnce(t *testing.T) {
	const threads, each = 8, 5000
	r, wake := recorder(64)
	var recording sync.WaitGroup
	for thread := range threads {
		recording.Go(func() {
			for i := range each {
				r.Record(Entry{Proto: uint8(thread), FromGuest: uint64(i) + 1})
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		recording.Wait()
		close(ended)
	}()
	heard, last := 0, [threads]uint64{}
	hear := func() {
		for _, e := range take(r) {
			heard++
			require.Greater(t, e.FromGuest, last[e.Proto])
			last[e.Proto] = e.FromGuest
		}
	}
	for over := false; !over; {
		select {
		case <-wake:
		case <-ended:
			over = true
		}
		hear()
	}
	require.EqualValues(t, threads*each, uint64(heard)+r.Lost())
	require.NotZero(t, heard)
}
