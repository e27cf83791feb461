package spec

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// NameForm is what a rule by name and a group of names can name.
const NameForm = "NAME, .NAME, *.NAME or *"

// MaxName is how long a name can be, in bytes without the final dot (RFC 1035 section 2.3.4).
const MaxName = 253

// ParseName reads what names one name or many, and returns its one spelling: in lower case, without a final dot.
//
//	example.org      that name
//	.example.org     that name and all below it
//	*.example.org    all below it, at any depth
//	mirror-*.example.org   a "*" within a label stands for any characters of that label
//	*                all names
//
// Labels of other scripts than ASCII are written as A-labels (RFC 5890 section 2.3.2.1); the error says which.
func ParseName(text string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(text, "."))
	if name == "*" {
		return name, nil
	}
	base := strings.TrimPrefix(strings.TrimPrefix(name, "*"), ".")
	if strings.HasPrefix(name, "*") && !strings.HasPrefix(name, "*.") {
		base = name // a "*" within the first label
	}
	if err := checkLabels(text, base); err != nil {
		return "", err
	}
	return name, nil
}

func checkLabels(text, base string) error {
	switch {
	case base == "":
		return fmt.Errorf("%q is not a name", text)
	case len(base) > MaxName:
		return fmt.Errorf("%q is longer than %d characters", text, MaxName)
	}
	if _, err := netip.ParseAddr(strings.Trim(base, "[]")); err == nil {
		return fmt.Errorf("%q is an address, for which there are --allow and --deny", text)
	}
	labels := strings.Split(base, ".")
	for _, label := range labels {
		if err := checkLabel(text, label); err != nil {
			return err
		}
	}
	switch last := labels[len(labels)-1]; {
	case strings.Contains(last, "*"):
		return fmt.Errorf("%q: its last label is a %q, and names anybody's domain; write that label out", text, last)
	case strings.Trim(last, "0123456789") == "":
		return fmt.Errorf("%q ends in a number, as no name does (RFC 3696 section 2)", text)
	}
	return nil
}

// checkLabel tells what is wrong with a label of the name text.
func checkLabel(text, label string) error {
	if label == "" {
		return fmt.Errorf("%q has an empty label", text)
	}
	for _, c := range label {
		switch {
		case c >= 0x80:
			return errors.New(adviseALabel(text))
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '*':
		default:
			return fmt.Errorf("%q: names do not have the character %q", text, c)
		}
	}
	if len(label) > 63 {
		return fmt.Errorf("%q: the label %q is longer than 63 characters", text, label)
	}
	return nil
}

// adviseALabel says how a name of another script is written.
func adviseALabel(text string) string {
	if ascii, err := idna.Lookup.ToASCII(strings.Trim(text, ".*")); err == nil {
		return fmt.Sprintf("%q: such names are written as the name service knows them: %s", text, ascii)
	}
	return fmt.Sprintf("%q: such names are written as the name service knows them, in A-labels: xn--...", text)
}

// CanonicalName returns a name as the name service or a peer has it, in the spelling in which rules are compared with it. It is "" if
// that is no name of a host: an address, for example, or one that a label of is missing.
func CanonicalName(name string) string {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > MaxName {
		return ""
	}
	upper, start := false, 0
	for i := 0; i <= len(name); i++ {
		if i == len(name) || name[i] == '.' {
			if i == start || i-start > 63 {
				return ""
			}
			start = i + 1
			continue
		}
		switch c := name[i]; {
		case c >= 'A' && c <= 'Z':
			upper = true
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_':
		default:
			return ""
		}
	}
	if strings.Trim(name[strings.LastIndexByte(name, '.')+1:], "0123456789") == "" {
		return "" // an address of IPv4 in one of its forms
	}
	if upper {
		return strings.ToLower(name)
	}
	return name
}

// NameGroup is a list of names that rules name together, by "@" and its own name.
type NameGroup struct {
	Name  string
	Names []string // as ParseName returns them
}

// NameGroupForm is what ParseNameGroup reads.
const NameGroupForm = "GROUP=NAME[,NAME]..."

// ParseNameGroup reads NameGroupForm, where each name is one as ParseName reads it.
func ParseNameGroup(text string) (g NameGroup, err error) {
	name, list, _ := strings.Cut(text, "=")
	if g.Name, err = name, ParseGroupName(name); err != nil {
		return g, err
	}
	for part := range strings.SplitSeq(list, ",") {
		n, err := ParseName(part)
		if err != nil {
			return g, fmt.Errorf("group %s: %w; want %s", name, err, NameGroupForm)
		}
		g.Names = append(g.Names, n)
	}
	return g, nil
}

// String returns g as ParseNameGroup reads it.
func (g NameGroup) String() string { return g.Name + "=" + strings.Join(g.Names, ",") }

// ParseGroupName checks the name of a group.
func ParseGroupName(name string) error {
	if name == "" || len(name) > 63 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return fmt.Errorf("group %q: want a name of up to 63 lower-case letters, digits, - and _", name)
	}
	return nil
}

// ParseNameList reads a file of names: one a line, each as ParseName reads it. Empty lines and what stands behind "#" do not count. The error
// tells the line.
func ParseNameList(text string) (names []string, err error) {
	line := 0
	for l := range strings.Lines(text) {
		line++
		l, _, _ = strings.Cut(l, "#")
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		name, err := ParseName(l)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w; want %s", line, err, NameForm)
		}
		names = append(names, name)
	}
	return names, nil
}
