package learned

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/audit"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

const tcp, udp, icmp = unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// entry is one of a guest at noon.
func entry(kind audit.Kind, proto uint8, to, name string) *audit.Entry {
	return &audit.Entry{
		Kind: kind, Time: noon, Proto: proto, From: netip.MustParseAddrPort("10.0.2.15:40000"), To: netip.MustParseAddrPort(to), Name: name,
		Answered: name != "", Verdict: "allowed", Rule: audit.NoRule,
	}
}

// told is that of a connection that has told its name itself.
func told(to, name string) *audit.Entry {
	e := entry(audit.Named, tcp, to, name)
	e.Told = true
	return e
}

// rules are the rules of a text, each of which must be read again.
func rules(t *testing.T, b *Book) (all []string) {
	text, _ := b.Text(noon)
	for line := range strings.Lines(string(text)) {
		item, is := strings.CutPrefix(strings.TrimSpace(line), "- ")
		if !is || strings.HasPrefix(item, "socket-path") {
			continue
		}
		option, rest, _ := strings.Cut(item, ": ")
		quoted, _, _ := strings.Cut(rest, " # ")
		value, err := strconv.Unquote(quoted)
		require.NoError(t, err, line)
		parse := map[string]func(string, bool) (spec.Rule, error){"allow": spec.ParseRule, "allow-name": spec.ParseNameRule}[option]
		require.NotNil(t, parse, line)
		r, err := parse(value, true)
		require.NoError(t, err, line)
		require.NoError(t, r.Check())
		require.Equal(t, value, r.String())
		all = append(all, r.ForShell())
	}
	return all
}

func TestWhatGuestsDoBecomesRules(t *testing.T) {
	b := New()
	for range 2 {
		b.Note("", entry(audit.Query, udp, "10.0.2.3:53", "example.org"))
		b.Note("", entry(audit.Begun, tcp, "198.51.100.1:443", "shared.example")) // the last one that was answered
		b.Note("", told("198.51.100.1:443", "Example.ORG."))
	}
	b.Note("", entry(audit.Begun, tcp, "198.51.100.2:80", "web.example"))
	b.Note("", entry(audit.Named, tcp, "198.51.100.2:80", "web.example")) // told nothing
	b.Note("", entry(audit.Begun, tcp, "198.51.100.3:22", "git.example"))
	b.Note("", entry(audit.Begun, udp, "198.51.100.4:443", "quic.example"))
	b.Note("", entry(audit.Begun, udp, "198.51.100.4:80", "quic.example"))
	b.Note("", entry(audit.Begun, tcp, "203.0.113.1:8080", ""))
	b.Note("", entry(audit.Begun, icmp, "[2001:db8::1]:0", "ping.example"))
	b.Note("", entry(audit.Begun, udp, "192.0.2.53:53", "resolver.example"))
	b.Note("", entry(audit.Begun, tcp, "169.254.169.254:9", "metadata.example"))
	unanswered := told("203.0.113.2:443", "outer.example")
	unanswered.Answered = false
	b.Note("", unanswered)
	private := entry(audit.Begun, tcp, "10.20.0.7:22", "office.example")
	private.Private = true
	b.Note("", private)
	given := entry(audit.Begun, tcp, "10.0.2.2:5432", "")
	given.Given = true
	b.Note("", given)
	b.Note("", entry(audit.Denied, tcp, "203.0.113.9:25", ""))
	b.Note("", entry(audit.Query, udp, "10.0.2.3:53", "asked.example."))
	b.Note("", entry(audit.Query, udp, "10.0.2.3:53", "1.2.0.192.in-addr.arpa"))
	require.Equal(t, []string{
		"--allow-name tcp:example.org:443", "--allow-name tcp:git.example:22", "--allow-name 'tcp:office.example:22;private'",
		"--allow-name 'udp:quic.example:80;verify=dns'", "--allow-name 'udp:quic.example:443;quic=verify'", "--allow-name 'tcp:web.example:80;verify=dns'",
		"--allow tcp:169.254.169.254:9", "--allow udp:192.0.2.53:53", "--allow icmp:2001:db8::1", "--allow tcp:203.0.113.1:8080", "--allow tcp:203.0.113.2:443",
	}, rules(t, b))
	text, isNew := b.Text(noon)
	require.False(t, isNew, "Text was called before")
	require.Contains(t, string(text), "nat:\n  restrict: true\n  rules:\n    - allow-name: \"tcp:example.org:443\" # --allow-name tcp:example.org:443: 2 times, first 2026-03-01T12:00:00Z, last 2026-03-01T12:00:00Z\n")
	require.Contains(t, string(text), "it was called outer.example\n")
	require.Contains(t, string(text), "#   asked.example: 1 times")
	require.NotContains(t, string(text), "#   example.org:")
	require.NotContains(t, string(text), "arpa")
	require.NotContains(t, string(text), "What is not here")
	require.Equal(t, 11, b.Len())
}

// A connection that ends, or that is there in the end, without having told anything counts by its witness.
func TestAConnectionThatTellsNothingIsLearnedToo(t *testing.T) {
	b := New()
	b.Note("", entry(audit.Begun, tcp, "198.51.100.1:443", "a.example"))
	require.Empty(t, rules(t, b))
	b.Note("", entry(audit.Ended, tcp, "198.51.100.1:443", ""))
	b.Note("", entry(audit.Begun, tcp, "198.51.100.2:443", "b.example"))
	require.Equal(t, []string{"--allow-name 'tcp:a.example:443;verify=dns'"}, rules(t, b))
	b.End()
	require.Equal(t, []string{"--allow-name 'tcp:a.example:443;verify=dns'", "--allow-name 'tcp:b.example:443;verify=dns'"}, rules(t, b))
	_, isNew := b.Text(noon)
	require.False(t, isNew)
	b.Renew()
	_, isNew = b.Text(noon)
	require.True(t, isNew)
}

func TestNetworksOfGuestsAreLearnedApart(t *testing.T) {
	b := New()
	b.Note("/run/b.sock", entry(audit.Begun, tcp, "198.51.100.1:22", "b.example"))
	b.Note("/run/a \"#.sock", entry(audit.Begun, tcp, "198.51.100.1:22", "a.example"))
	b.Note("", entry(audit.Begun, tcp, "198.51.100.1:22", "shared.example"))
	text, _ := b.Text(noon)
	_, text2, _ := strings.Cut(string(text), "vring nat, with --restrict.\n")
	var lines []string
	for line := range strings.Lines(text2) {
		before, _, _ := strings.Cut(line, " # ")
		lines = append(lines, strings.TrimRight(before, "\n"))
	}
	require.Equal(t, []string{
		"nat:", "  restrict: true", "  rules:", `    - allow-name: "tcp:shared.example:22"`, "guests:", `  - socket-path: "/run/a \"#.sock"`, "    nat:", "      restrict: true",
		"      rules:", `        - allow-name: "tcp:a.example:22"`, `  - socket-path: "/run/b.sock"`, "    nat:", "      restrict: true", "      rules:", `        - allow-name: "tcp:b.example:22"`,
	}, lines)
}

// A guest that tries everything does not fill memory nor the disk, and the text says what is missing. Names that are none stand nowhere.
func TestWhatIsLearnedIsBounded(t *testing.T) {
	b := New()
	for i := range 3 * MaxRules {
		name := fmt.Sprintf("%s%d.example", strings.Repeat("long-label-of-a-guest.", 9), i)
		b.Note("", entry(audit.Query, udp, "10.0.2.3:53", name))
		b.Note("", entry(audit.Begun, tcp, "198.51.100.1:22", name))
	}
	for _, hostile := range []string{"x\n- deny: y", "a\"b", "*", "@apt", "'; reboot #", "\xff"} {
		b.Note("", entry(audit.Begun, tcp, "198.51.100.9:22", hostile))
		b.Note("", entry(audit.Query, udp, "10.0.2.3:53", hostile))
	}
	for i := range 2 * MaxNetworks {
		b.Note(fmt.Sprint(i), entry(audit.Begun, tcp, "198.51.100.1:22", "a.example"))
	}
	for i := range 2 * maxPending {
		e := entry(audit.Begun, tcp, "198.51.100.1:443", "")
		e.From = netip.AddrPortFrom(e.From.Addr(), uint16(i))
		b.Note("", e)
	}
	b.Lost(7)
	require.LessOrEqual(t, len(b.pending), maxPending)
	require.LessOrEqual(t, b.Len(), MaxRules+MaxNetworks)
	text, _ := b.Text(noon)
	require.Less(t, len(text), 128<<10)
	require.Regexp(t, `\n# What is not here: \d{4,} connections or names for which there was no room, and 7 that were not seen\.\n$`, string(text))
	for _, r := range rules(t, b) {
		require.NotContains(t, r, "reboot")
		require.NotContains(t, r, "apt")
	}
}

// What is learned is looked at without a change of what is written, and of one network.
func TestWhatWasLearnedSoFarIsSeen(t *testing.T) {
	b := New()
	require.Zero(t, b.View(""))
	b.Note("", entry(audit.Query, udp, "10.0.2.3:53", "asked.example"))
	b.Note("", entry(audit.Query, udp, "10.0.2.3:53", "good.example"))
	b.Note("", entry(audit.Begun, tcp, "198.51.100.1:443", "good.example"))
	b.Note("", entry(audit.Begun, tcp, "198.51.100.2:22", ""))
	b.Note("/own.sock", entry(audit.Begun, tcp, "198.51.100.3:22", "own.example"))
	b.Lost(4)
	v := b.View("")
	require.Equal(t, 1, v.Telling, "the connection to port 443 is no rule yet")
	require.Zero(t, b.View("/own.sock").Telling)
	require.Len(t, v.Rules, 1)
	require.Equal(t, "--allow tcp:198.51.100.2:22", v.Rules[0].Rule.ForShell())
	require.Equal(t, Use{1, noon, noon, ""}, v.Rules[0].Use)
	require.Equal(t, []Asked{{"asked.example", Use{1, noon, noon, ""}}, {"good.example", Use{1, noon, noon, ""}}}, v.Asked)
	require.EqualValues(t, 4, v.Lost)
	b.Note("", told("198.51.100.1:443", "good.example"))
	v = b.View("")
	require.Zero(t, v.Telling)
	require.Equal(t, []string{"--allow-name tcp:good.example:443", "--allow tcp:198.51.100.2:22"}, []string{v.Rules[0].Rule.ForShell(), v.Rules[1].Rule.ForShell()})
	require.Equal(t, []Asked{{"asked.example", Use{1, noon, noon, ""}}}, v.Asked)
	own := b.View("/own.sock")
	require.Len(t, own.Rules, 1)
	require.Zero(t, own.Telling)
	require.Zero(t, b.View("/other.sock").Rules)
	_, isNew := b.Text(noon)
	require.True(t, isNew, "a look leaves it as it was")
}
