package dnszone

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/miekg/dns"
)

// Kind is which names of a zone an entry is about.
type Kind uint8

const (
	Exact   Kind = iota // the one that is Entry.Name
	Pattern             // those that the regular expression Entry.Name matches anywhere
	Rest                // those that no other entry is about
	Alone               // none: the zone is there, and may have no other entry
)

// Entry is what names in a zone have: an address, another name, or a text. A zone answers for what lies below its own name. The first entry
// decides that is about a name, with those of the same kind and name: so a name may have an address of each version of IP, and texts.
type Entry struct {
	Zone string
	Kind Kind
	Name string // what stands in front of the zone's name, without a dot at its end; "" for Rest and Alone

	// One of these, and none for Alone.
	Addr   netip.Addr
	Target string // the name whose addresses it has (CNAME), which is in a zone, too; without a dot at its end
	Text   string // TXT
}

// EntryForm is what ParseEntry reads.
const EntryForm = "NAME@ZONE=ADDRESS, NAME@ZONE=cname:NAME, NAME@ZONE=txt:TEXT; in the place of NAME also /REGEXP/, or * for all other names; or @ZONE"

const (
	maxPattern = 256 // bytes
	// maxLabels is how long a name may be as text.
	maxLabels = 253
	// maxText is how long a text may be: that of one string (RFC 1035 section 3.3.14).
	maxText = 255

	cname, txt = "cname:", "txt:"
)

// ParseEntry reads EntryForm.
func ParseEntry(text string) (Entry, error) {
	e, err := readEntry(text)
	if err == nil {
		err = e.check()
	}
	if err != nil {
		return Entry{}, fmt.Errorf("DNS name %q: %w; want %s, as in host@vring.internal=10.0.2.2", text, err, EntryForm)
	}
	return e, nil
}

func readEntry(text string) (e Entry, err error) {
	if zone, alone := strings.CutPrefix(text, "@"); alone {
		return Entry{Zone: zone, Kind: Alone}, nil
	}
	equals := equalsSign(text)
	if equals < 0 {
		return e, errors.New("it has no address")
	}
	at := strings.LastIndexByte(text[:equals], '@')
	if at < 0 {
		return e, errors.New("it has no zone")
	}
	e.Name, e.Zone = text[:at], text[at+1:equals]
	if err := e.readValue(text[equals+1:]); err != nil {
		return e, err
	}
	pattern, isPattern := strings.CutPrefix(e.Name, "/")
	if isPattern {
		pattern, isPattern = strings.CutSuffix(pattern, "/")
	}
	switch {
	case isPattern:
		e.Kind, e.Name = Pattern, pattern
	case e.Name == "*":
		e.Kind, e.Name = Rest, ""
	}
	return e, nil
}

// equalsSign returns where the value begins: a regular expression may have such a sign, and so may a text.
func equalsSign(text string) int {
	for _, kind := range []string{"=" + txt, "=" + cname} {
		at := strings.IndexByte(text, '@')
		if i := strings.Index(text[max(at, 0):], kind); i >= 0 {
			return max(at, 0) + i
		}
	}
	return strings.LastIndexByte(text, '=')
}

func (e *Entry) readValue(value string) (err error) {
	if target, is := strings.CutPrefix(value, cname); is {
		e.Target = strings.ToLower(strings.TrimSuffix(target, "."))
		return nil
	}
	if content, is := strings.CutPrefix(value, txt); is {
		e.Text = content
		return nil
	}
	if e.Addr, err = netip.ParseAddr(value); err != nil {
		return fmt.Errorf("%q is not an IP address", value)
	}
	return nil
}

// checkValue returns what is wrong with what names of e have.
func (e *Entry) checkValue() error {
	switch {
	case e.Target != "" && !isName(e.Target):
		return fmt.Errorf("%q is no name", e.Target)
	case len(e.Text) > maxText:
		return fmt.Errorf("the text has %d bytes; %d may be", len(e.Text), maxText)
	case strings.ContainsFunc(e.Text, func(r rune) bool { return r < ' ' || r > '~' }):
		return fmt.Errorf("the text %q has other characters than those of ASCII", e.Text)
	case e.Target != "" || e.Text != "":
		return nil
	case !e.Addr.IsValid() || e.Addr.Zone() != "" || e.Addr.Is4In6():
		return fmt.Errorf("%s is no address that a name can have", e.Addr)
	}
	return nil
}

// check returns what is wrong with e.
func (e *Entry) check() error {
	switch {
	case !isName(e.Zone):
		return fmt.Errorf("%q is no name of a zone", e.Zone)
	case e.Kind != Alone && e.checkValue() != nil:
		return e.checkValue()
	case e.Kind == Exact && !isName(e.Name):
		return fmt.Errorf("%q is no name", e.Name)
	case e.Kind == Exact && len(e.Name)+len(e.Zone) >= maxLabels:
		return errors.New("the name is too long")
	case e.Kind == Pattern && len(e.Name) > maxPattern:
		return fmt.Errorf("the regular expression has %d bytes; %d may be", len(e.Name), maxPattern)
	case e.Kind == Pattern:
		_, err := regexp.Compile(e.Name)
		return err
	}
	return nil
}

// isName reports whether text is a name, without a dot at its end.
func isName(text string) bool {
	_, ok := dns.IsDomainName(text)
	return ok && text != "" && !strings.HasSuffix(text, ".") && !strings.ContainsAny(text, "@=*\\ \t\n")
}

// String returns e as ParseEntry reads it.
func (e Entry) String() string {
	name := e.Name
	switch e.Kind {
	case Pattern:
		name = "/" + name + "/"
	case Rest:
		name = "*"
	case Alone:
		return "@" + e.Zone
	}
	return name + "@" + e.Zone + "=" + e.value()
}

func (e *Entry) value() string {
	switch {
	case e.Target != "":
		return cname + e.Target
	case e.Text != "":
		return txt + e.Text
	}
	return e.Addr.String()
}
