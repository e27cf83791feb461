package filter_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/capture/filter"
)

func TestAFilterHasBounds(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"text":         {"tcp" + strings.Repeat(" ", filter.MaxText), "want at most 2048"},
		"program":      {"port 1" + strings.Repeat(" or 2", 100), "instructions: want at most 1024"},
		"parentheses":  {strings.Repeat("(", 1000) + "tcp", "nested too deep"},
		"negations":    {strings.Repeat("!", 2000) + "tcp", "nested too deep"},
		"arithmetic":   {strings.Repeat("-", 2000) + "1=1", "nested too deep"},
		"open fields":  {strings.Repeat("ip[", 600), "nested too deep"},
		"right fields": {strings.Repeat("(1+ip[0]+(ip[0]+", 120), "nested too deep"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := filter.Parse(c.text)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestAFilterIsAsLongAsItMayBe(t *testing.T) {
	text := "port 80"
	for port := range 30 {
		text += fmt.Sprint(" or ", 20000+port)
	}
	p, err := filter.Parse(text)
	require.NoError(t, err)
	require.Greater(t, len(p.Instructions()), 512, "jumps are longer than one instruction has room for")
	for _, form := range []string{"%s", "not (%s)", "arp or (%s)", "(%s) and tcp"} {
		requireAlike(t, fmt.Sprintf(form, text), frames()[:500])
	}
}

func TestAnErrorSaysWhere(t *testing.T) {
	for text, want := range map[string]string{
		"tcp port http":    `near "http": want a port from 0 to 65535; names are not looked up`,
		"host example.com": `near "example.com": want an IP address; names are not looked up`,
		"tcp and vlan 5":   `near "vlan 5": there is no "vlan" in this part of tcpdump's language`,
		"tcp and":          "near its end: want a condition",
		"(tcp":             "near its end: want )",
		"tcp[13] & 2":      "near its end: want a comparison",
		"tcp é":            "want ASCII",
	} {
		_, err := filter.Parse(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestAnEmptyFilterSelectsAll(t *testing.T) {
	p, err := filter.Parse(" \n")
	require.NoError(t, err)
	require.True(t, p.Match(nil, 60))
	require.Zero(t, p.Reach())
}

func TestAFilterLooksAtSoManyBytes(t *testing.T) {
	for text, want := range map[string]int{
		"arp": 14, "tcp": 55, "len > 5": 0, "port 80": 78, "host fd00::1": 54, "tcp[13] = 2": 88, "tcp[tcp[12] / 4] = 1": filter.MaxReach,
		"ether[65535] = 1": filter.MaxReach - 13, "ip[65535:4] = 1": filter.MaxReach,
	} {
		p, err := filter.Parse(text)
		require.NoError(t, err)
		require.Equal(t, want, p.Reach(), text)
	}
}

func TestMatchingAllocatesNothing(t *testing.T) {
	p, err := filter.Parse("tcp port 80 or udp[4:2] + ip[0] > 100 or net fd00::/8")
	require.NoError(t, err)
	all := frames()[:100]
	require.Zero(t, testing.AllocsPerRun(10, func() {
		for _, frame := range all {
			p.Match(frame, len(frame))
		}
	}))
}

// FuzzParse gives the compiler any text, and programs any frame. What is accepted ends, within its reach and its frame.
func FuzzParse(f *testing.F) {
	for _, text := range append(accepted, refused...) {
		f.Add(text, []byte("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x08\x00E\x00\x00\x28"))
	}
	f.Fuzz(func(t *testing.T, text string, frame []byte) {
		p, err := filter.Parse(text)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		code := p.Instructions()
		for i, in := range code {
			next := i + 1
			switch in.Op & 7 {
			case 5:
				next += max(int(in.True), int(in.False))
				if in.Op == 5 {
					next += int(in.K)
				}
			case 6:
				continue
			}
			require.Less(t, next, len(code), "instruction %d leads out of the program", i)
		}
		frame = frame[:min(len(frame), filter.MaxReach)]
		seen := frame[:min(len(frame), p.Reach())]
		require.Equal(t, p.Match(frame, len(frame)), p.Match(seen, len(frame)))
	})
}
