package top

import (
	"errors"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
)

var began = time.Date(2026, time.November, 30, 12, 0, 0, 0, time.UTC)

// readingAt is what a vring with two guests answers some seconds after it began. The first guest has sent a megabyte in each, and its
// flows are named by their remote ends.
func readingAt(seconds int, flows ...string) *reading {
	sent := uint64(seconds) * 1e6
	r := &reading{at: began.Add(time.Duration(seconds) * time.Second), guest: "10.0.2.15"}
	r.status = api.Status{Version: "1.0", UptimeSeconds: 61, Process: api.Process{HeapBytes: 10e6}, Guests: []api.Guest{
		{Name: "10.0.2.15", FrontEnd: "up", Pairs: []api.Pair{{FromGuestBytes: sent / 4}, {FromGuestBytes: sent - sent/4, ToGuestBytes: sent / 100}}},
		{Name: "10.0.2.16", FrontEnd: "up", Link: api.LinkDown, Pairs: []api.Pair{{}}},
	}}
	r.counters = []api.Counters{
		{Guest: "10.0.2.15", Counters: map[string]uint64{"denied": 7, "frames_in": uint64(seconds) * 10, "malformed": 0}},
		{Guest: "10.0.2.15", Pair: 1, Counters: map[string]uint64{"denied": 1}},
		{Guest: "10.0.2.16", Counters: map[string]uint64{"denied": 3}},
	}
	r.forwards = []api.Forward{{Text: "127.0.0.1:8080:10.0.2.15:80", Guest: "10.0.2.15", Gate: true}}
	for i, remote := range flows {
		r.flows.Add(r.guest, []api.Flow{{
			Proto: "tcp", Guest: "10.0.2.15:40000", Remote: remote, State: "open", FromGuest: sent * uint64(i+1), AgeMillis: 5000,
		}})
	}
	r.flows.At = r.at
	return r
}

// shown is a page that has had some readings.
func shown(t *testing.T, readings ...*reading) *page {
	p := newPage(t.Context(), nil, "/tmp/vm0.sock.ctl", blocks)
	for _, r := range readings {
		p.asking = true
		p.Update(answered{reading: r})
	}
	return p
}

// text is what a page shows, without colours.
func (p *page) text() string { return ansi.Strip(p.View().Content) }

// type presses keys.
func (p *page) typed(keys ...string) (last tea.Cmd) {
	special := map[string]tea.Key{
		"up": {Code: tea.KeyUp}, "down": {Code: tea.KeyDown}, "end": {Code: tea.KeyEnd}, "home": {Code: tea.KeyHome}, "tab": {Code: tea.KeyTab},
		"ctrl+c": {Code: 'c', Mod: tea.ModCtrl},
	}
	for _, k := range keys {
		key, ok := special[k]
		if !ok {
			key = tea.Key{Code: rune(k[0]), Text: k}
		}
		_, last = p.Update(tea.KeyPressMsg(key))
	}
	return last
}

func TestThePageShowsGuestsAndFlowsWithTheirRates(t *testing.T) {
	p := shown(t, readingAt(1, "192.0.2.1:443", "192.0.2.2:22"), readingAt(2, "192.0.2.1:443", "192.0.2.2:22"), readingAt(3, "192.0.2.1:443", "192.0.2.2:22"))
	p.Update(tea.WindowSizeMsg{Width: 100, Height: 12})
	want := `vring 1.0  up 1m1s  guests: 2  heap 10.0 MB  /tmp/vm0.sock.ctl
  GUEST      FRONT END       FROM GUEST                   TO GUEST                SLEEPS/s
> 10.0.2.15  up             8.00 Mbit/s            ██  80.0 kbit/s            ▁▁         0
  10.0.2.16  up, link down      0 bit/s                    0 bit/s                       0

[1] flows of 10.0.2.15 by rate (2)   [2] counters (2)   [3] forwards (1)
  PROTO  WAY  GUEST'S END      REMOTE         STATE   FROM GUEST  TO GUEST  AGE
> tcp    out  10.0.2.15:40000  192.0.2.2:22   open   16.0 Mbit/s   0 bit/s   5s
  tcp    out  10.0.2.15:40000  192.0.2.1:443  open   8.00 Mbit/s   0 bit/s   5s


tab guests/list  1 2 3 lists  s sort  k end flow  c capture  p pause  ? help  q quit`
	require.Equal(t, want, p.text())

	p.typed("2")
	require.Contains(t, p.text(), "> frames_in     30          10\n  denied         8           0\n")
	p.typed("3")
	require.Contains(t, p.text(), "> 10.0.2.15  127.0.0.1:8080:10.0.2.15:80  yes")
	p.typed("?")
	require.Contains(t, p.text(), "end the flow that is chosen, after a question")
}

func TestAPageFitsItsTerminal(t *testing.T) {
	var many []string
	for range 200 {
		many = append(many, "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535")
	}
	p := shown(t, readingAt(1, many...), readingAt(2, many...))
	for _, before := range [][]string{nil, {"k"}, {"n", "2"}, {"?"}} {
		p.typed(before...)
		for _, width := range []int{0, 1, 2, 10, 59, 60, 61, 80, 300} {
			for _, height := range []int{0, 1, 2, 3, 5, 9, 24, 60} {
				p.Update(tea.WindowSizeMsg{Width: width, Height: height})
				lines := strings.Split(p.text(), "\n")
				require.LessOrEqual(t, len(lines), max(1, height))
				for _, line := range lines {
					require.LessOrEqual(t, ansi.StringWidth(line), width)
				}
			}
		}
	}
}

func TestTheRowThatIsChosenIsOnThePage(t *testing.T) {
	var many []string
	for i := range 100 {
		many = append(many, "192.0.2.1:"+strings.Repeat("1", i%3+1)+string(rune('0'+i%10)))
	}
	p := shown(t, readingAt(1, many...))
	p.Update(tea.WindowSizeMsg{Width: 100, Height: 14})
	p.typed("1")
	for range 100 {
		p.typed("down")
		require.Equal(t, 2, strings.Count(p.text(), "\n> "), "a guest and a flow")
	}
	p.typed("end")
	require.Equal(t, 99, p.row)
	p.typed("down", "home", "up")
	require.Equal(t, 0, p.row)
}

func TestAFlowStaysChosenWhenTheOrderChanges(t *testing.T) {
	p := shown(t, readingAt(1, "192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"))
	p.typed("1", "down")
	chosen := p.flow().Remote
	require.Equal(t, "192.0.2.1:2", chosen)
	p.asking = true
	p.Update(answered{reading: readingAt(3, "192.0.2.1:9", "192.0.2.1:2")})
	require.Equal(t, chosen, p.now.flows.Flows[0].Remote, "it is the fastest now")
	require.Equal(t, chosen, p.flow().Remote)
	p.Update(answered{reading: readingAt(4, "192.0.2.1:9")})
	require.Equal(t, "192.0.2.1:9", p.flow().Remote, "it has ended")
	p.Update(answered{reading: readingAt(5)})
	require.Nil(t, p.flow())
}

func TestKeys(t *testing.T) {
	p := shown(t, readingAt(1, "192.0.2.1:1", "192.0.2.1:2"))
	p.typed("1", "down", "tab")
	require.Equal(t, 1, p.row)
	require.NotNil(t, p.typed("down"), "the flows of the other guest are asked for")
	require.Equal(t, "10.0.2.16", p.guest)
	require.Zero(t, p.row)
	require.NotContains(t, p.text(), "192.0.2.1:1", "they are the flows of another guest")
	require.Nil(t, p.typed("down"), "there is no third one")
	p.typed("k")
	require.Contains(t, p.text(), "no flow is chosen")
	p.typed("up", "1", "k")
	require.Contains(t, p.text(), "End tcp 10.0.2.15:40000 - 192.0.2.1:1?")
	require.Nil(t, p.typed("x"))
	require.Contains(t, p.text(), "the flow goes on")
	p.typed("k")
	require.NotNil(t, p.typed("y"))
	p.Update(ended{flows: 1})
	require.Contains(t, p.text(), "1 flow ended")
	p.typed("s")
	require.Contains(t, p.text(), "flows of 10.0.2.15 by age")
	p.typed("p")
	require.Contains(t, p.text(), "PAUSED")
	for _, quit := range []string{"q", "ctrl+c"} {
		require.Equal(t, tea.QuitMsg{}, p.typed(quit)())
	}
	p.typed("1", "k")
	require.Equal(t, tea.QuitMsg{}, p.typed("ctrl+c")(), "also while a question is open")
}

func TestAPageOutlivesAVringThatIsStartedAgain(t *testing.T) {
	p := shown(t, readingAt(5, "192.0.2.1:1"))
	p.asking = true
	p.Update(answered{err: errors.New("connection refused\x1b[2J")})
	require.Contains(t, p.text(), "no answer, asking again: connection refused?[2J\n")
	require.Contains(t, p.text(), "192.0.2.1:1", "what was there last stays")
	p.Update(answered{reading: readingAt(6)})
	p.Update(answered{reading: readingAt(2)}) // its clock and its counters began anew
	require.NotContains(t, p.text(), "-")
	require.NotContains(t, p.text(), "no answer")
}

// A counter that is less than before began at 0 in between.
func TestRatesAreRemembered(t *testing.T) {
	var m meter
	for i := range 2 * remembered {
		m.add(&api.Guest{Pairs: []api.Pair{{FromGuestBytes: 1000}}}, began.Add(time.Duration(i)*time.Second))
	}
	require.Len(t, m.fromRates, remembered)
	m.add(&api.Guest{Pairs: []api.Pair{{FromGuestBytes: 100}}}, m.at.Add(2*time.Second))
	require.InDelta(t, 400, last(m.fromRates), 1e-9)
	require.InDelta(t, 400, m.greatest(), 1e-9)
}

func TestNumbersAreScaled(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0 ", 7: "7 ", 7.25: "7.25 ", 99.94: "99.9 ", 999: "999 ", 999.6: "1.00 k", 12345: "12.3 k", 1e9: "1.00 G", 2.5e15: "2500 T",
	} {
		require.Equal(t, want, scaled(v))
	}
}

func TestSparklinesNeedAUTF8Terminal(t *testing.T) {
	for want, env := range map[string][]string{
		string(blocks): {"LANG=C", "LC_ALL=de_DE.UTF-8"},
		string(ascii):  {"LANG=en_US.UTF-8", "LC_CTYPE=C"},
	} {
		require.Equal(t, want, string(glyphsFor(env)))
	}
	require.Equal(t, string(ascii), string(glyphsFor(nil)))
	p := &page{glyphs: ascii}
	require.Equal(t, "   _@", p.sparkline([]float64{9, 0, 0, 0, 1, 100}, 100, 5))
	require.Equal(t, "     ", p.sparkline([]float64{0, 0}, 0, 5))
}

func TestAFlowIsChosenByBothOfItsEnds(t *testing.T) {
	l := readingAt(1, "[2001:db8::1]:443").flows
	l.Flows[0].Inbound = true
	q, err := choiceOf(&l.Flows[0])
	require.NoError(t, err)
	require.Equal(t, "direction=in&guest-address=10.0.2.15&guest-port=40000&proto=tcp&remote=%5B2001%3Adb8%3A%3A1%5D%3A443", q.Encode())
}

func TestAnUnusualKindOfFrontEndStandsBehindItsState(t *testing.T) {
	for kind, want := range map[string]string{"stream": "up (stream)", api.FrontEndVhostUser: "up", "": "up"} {
		p := &page{meters: map[string]*meter{"g": {}}}
		require.Equal(t, want, p.guestRow(&api.Guest{Name: "g", FrontEnd: "up", FrontEndKind: kind})[1])
	}
}
