package archtest

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Messages of vring that the documentation quotes are found in two ways. A quoted line of the log has its message in
// msg="..." or msg=word. Other messages stand in code spans of the paragraph or table behind the comment
// <!-- messages -->; in a table those of the first column count. Three dots stand for anything.
var (
	logMessage = regexp.MustCompile(`msg="((?:[^"\\]|\\.)*)"`)
	logWord    = regexp.MustCompile(`msg=(\w+)`)
	marked     = regexp.MustCompile(`(?m)^<!-- messages -->\n\n?((?:.+\n)+)`)
)

func TestMessagesThatTheDocumentationQuotesAreInTheSource(t *testing.T) {
	source := newMessages(literals(sourceFiles(t)))
	found := 0
	for _, p := range pagesOf(t) {
		for _, quote := range quotes(p) {
			found++
			if !source.say(quote) {
				t.Errorf("%s quotes %q, which vring does not say", p.name, quote)
			}
		}
	}
	require.Greater(t, found, 5)
}

// quotes returns the messages that a page quotes.
func quotes(p page) []string {
	var all []string
	for _, m := range logMessage.FindAllStringSubmatch(p.text, -1) {
		all = append(all, strings.ReplaceAll(m[1], `\"`, `"`))
	}
	for _, m := range logWord.FindAllStringSubmatch(p.text, -1) {
		all = append(all, m[1])
	}
	for _, m := range marked.FindAllStringSubmatch(p.text, -1) {
		for line := range strings.Lines(m[1]) {
			if strings.HasPrefix(line, "|") {
				line = strings.Split(line, "|")[1]
			}
			all = append(all, spans(line)...)
		}
	}
	return all
}

// A pattern is a string of the source, with its verbs as groups.
type pattern struct {
	literal string
	form    *regexp.Regexp
	verbs   []string
}

// messages are the strings of the source of which messages are made.
type messages []pattern

var verb = regexp.MustCompile(`%(?:\[\d\])?[-+#0-9.]*([a-zA-Z])`)

func newMessages(literals []string) messages {
	var all messages
	for _, literal := range literals {
		verbs := verb.FindAllStringSubmatch(literal, -1)
		if letters := verb.ReplaceAllString(literal, ""); !strings.Contains(strings.TrimSpace(letters), " ") && len(letters) < 4 {
			continue // it would fit everything
		}
		p := pattern{literal: literal}
		form := regexp.QuoteMeta(literal)
		for _, v := range verbs {
			p.verbs = append(p.verbs, v[1])
			form = strings.Replace(form, regexp.QuoteMeta(v[0]), "(.+)", 1)
		}
		p.form = regexp.MustCompile("^" + form + "$")
		all = append(all, p)
	}
	return all
}

// say reports whether a message can be made of the strings: it is one of them with something in the place of each verb,
// and what takes the place of an error is such a message, too. A message with dots has all of its parts in one string.
func (all messages) say(message string) bool {
	for _, p := range all {
		if strings.Contains(message, "...") {
			if inOrder(p.literal, strings.Split(message, "...")) {
				return true
			}
			continue
		}
		if m := p.form.FindStringSubmatch(message); m != nil && all.sayErrors(p.verbs, m[1:]) {
			return true
		}
	}
	return false
}

// sayErrors reports whether those of the values that are errors can be made of the strings.
func (all messages) sayErrors(verbs, values []string) bool {
	for i, v := range verbs {
		if v == "w" && !all.say(values[i]) {
			return false
		}
	}
	return true
}

// inOrder reports whether the text has all parts, one behind the other.
func inOrder(text string, parts []string) bool {
	for _, part := range parts {
		at := strings.Index(text, strings.TrimSpace(part))
		if at < 0 {
			return false
		}
		text = text[at+len(strings.TrimSpace(part)):]
	}
	return true
}
