package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/talk"
)

// The short form of the soak: a service is killed, and a guest, within so many seconds as a rule.
func TestAShortSoak(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	var out strings.Builder
	err := run(ctx, []string{"--time", "15s", "--guests", "2", "--calm", "4s", "--progress", "5s", "--verbose"}, &out)
	t.Log(out.String())
	require.NoError(t, err)
}

// known is a conversation about which all is known.
func known(kind talk.Kind, caller, answerer talk.Outcome) *entry {
	e := &entry{Script: talk.Script{Kind: kind, Up: 3, Down: 4}, guest: &vm{}, caller: &talk.Result{Outcome: caller}}
	if answerer != "" {
		e.answerer = &talk.Result{Outcome: answerer}
	}
	return e
}

func TestConversationsAreJudged(t *testing.T) {
	for _, tt := range []struct {
		name  string
		entry *entry
		fault string
	}{
		{"all came", known(talk.Both, talk.Complete, talk.Complete), ""},
		{"the caller missed something", known(talk.Both, talk.Truncated, talk.Complete), "not complete"},
		{"the answerer is silent", known(talk.Both, talk.Complete, ""), "not complete"},
		{"wrong data", known(talk.Both, talk.Complete, talk.Wrong), "wrong data"},
		{"a reset was told", known(talk.CallerResets, talk.Resetting, talk.Broken), ""},
		{"a reset before the script was read", known(talk.CallerResets, talk.Resetting, ""), ""},
		{"a reset looked like an end", known(talk.CallerResets, talk.Resetting, talk.Truncated), "not told"},
		{"a reset of the answerer looked like an end", known(talk.AnswererResets, talk.Complete, talk.Resetting), "not told"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fault := tt.entry.judge(new(tally))
			require.Equal(t, tt.fault == "", fault == "")
			require.Contains(t, fault, tt.fault)

			disturbed := tt.entry
			disturbed.guest.generation.Add(2)
			fault = disturbed.judge(new(tally))
			require.Equal(t, tt.fault == "wrong data", fault != "", "but for wrong data, anything may come of it")
		})
	}
}

func TestWhatIsMoreThanBeforeIsAFault(t *testing.T) {
	before := holdings{Goroutines: 10, Heap: 1 << 20}
	require.Empty(t, before.excess(before))
	after := before
	after.FDs++
	after.TCPFlows++
	require.Len(t, after.excess(before), 2)
}

func TestTheStatusIsWhatIsNew(t *testing.T) {
	require.Equal(t, "new", newer("old", "oldnew"))
	long := strings.Repeat("x", 1000)
	require.Equal(t, "new", newer(long, long[500:]+"new"), "the beginning is lost")
}
