package auditlog

import (
	"encoding/json"
	"net/netip"
	"time"

	"github.com/vringnet/vring/netbackend/nat/audit"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// Version is that of the format. It changes if a field changes its meaning or goes; a field that is new does not change it.
const Version = 1

// Line is one line. Fields that a kind does not have are left out.
type Line struct {
	Version   int      `json:"v"`
	Time      string   `json:"time"` // RFC 3339, in UTC
	Guest     string   `json:"guest"`
	Kind      string   `json:"kind"` // one of audit.Kinds, or KindLost
	Proto     string   `json:"proto,omitempty"`
	From      string   `json:"from,omitempty"`
	To        string   `json:"to,omitempty"`
	Name      string   `json:"name,omitempty"`
	Others    []string `json:"other_names,omitempty"`
	Type      uint16   `json:"type,omitempty"` // of records, by its number
	Verdict   string   `json:"verdict,omitempty"`
	Rule      int      `json:"rule,omitempty"` // counted from 1
	RuleText  string   `json:"rule_text,omitempty"`
	Why       string   `json:"why,omitempty"`
	FromGuest *uint64  `json:"bytes_from_guest,omitempty"`
	ToGuest   *uint64  `json:"bytes_to_guest,omitempty"`
	Seconds   *float64 `json:"seconds,omitempty"`
	Count     uint64   `json:"count,omitempty"` // of lines that are missing
}

// KindLost is the kind of a line that says how many are missing before it.
const KindLost = "lost"

// LineOf returns what a line says of an entry of a guest.
func LineOf(guest string, e *audit.Entry) Line {
	l := Line{
		Version: Version, Time: timeText(e.Time), Guest: guest, Kind: e.Kind.String(), Proto: spec.ProtoName(e.Proto),
		From: endText(e.From), To: endText(e.To), Name: e.Name, Others: e.Others, Type: e.Type,
		Verdict: e.Verdict, Rule: e.Rule + 1, RuleText: e.RuleText, Why: e.Detail,
	}
	if e.Kind == audit.Ended {
		seconds := e.Duration.Seconds()
		l.FromGuest, l.ToGuest, l.Seconds = &e.FromGuest, &e.ToGuest, &seconds
	}
	return l
}

// LostLine says that n lines of a guest are missing before it.
func LostLine(guest string, at time.Time, n uint64) Line {
	return Line{Version: Version, Time: timeText(at), Guest: guest, Kind: KindLost, Count: n}
}

// Append appends the line to text, with its end. Bytes that are no UTF-8 are written as U+FFFD, control characters as escapes: a line has no
// other line in it, whatever guests and name servers say.
func (l *Line) Append(text []byte) []byte {
	made, _ := json.Marshal(l) // of texts and numbers, it cannot fail
	return append(append(text, made...), '\n')
}

func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// endText is an end of a flow: an address with its port, if there is one.
func endText(e netip.AddrPort) string {
	switch {
	case !e.IsValid():
		return ""
	case e.Port() == 0:
		return e.Addr().String()
	}
	return e.String()
}
