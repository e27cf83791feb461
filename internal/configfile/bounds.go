package configfile

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/token"
)

// Bounds of a file. They are looked at before the text is parsed.
const (
	// MaxFile is how many bytes a file may have.
	MaxFile = 128 << 10
	// maxItems bounds the keys and the items of lists, all together.
	maxItems = 8192
	// maxFlow bounds how deep lists and mappings in brackets lie in one another, and maxColumn how deep others do: each begins one
	// character further to the right at least.
	maxFlow   = 8
	maxColumn = 64
)

// bounds are those of a text.
type bounds struct{ bytes, items int }

// fileBounds are those of a file.
func fileBounds() bounds { return bounds{MaxFile, maxItems} }

// checkText returns what is wrong with the bytes of a text, "" if nothing is.
func (b bounds) checkText(text []byte) string {
	control := strings.IndexFunc(string(text), func(c rune) bool { return c < ' ' && c != '\t' && c != '\n' && c != '\r' })
	switch {
	case len(text) > b.bytes:
		return fmt.Sprintf("the file is too long: want %d KiB at most", b.bytes>>10)
	case !utf8.Valid(text):
		return "the file is no text in UTF-8"
	case control >= 0:
		return "the file has control characters: it is no text"
	}
	return ""
}

// unused tells why a kind of token is refused, "" for one that is not.
func unused(t *token.Token) string {
	switch t.Type {
	case token.AnchorType, token.AliasType, token.MergeKeyType:
		return "anchors, aliases and merges (&, * and <<) are not used here: write the value itself; in quotes if it begins so"
	case token.TagType:
		return "tags (!) are not used here: write the value itself; in quotes if it begins so"
	case token.DirectiveType:
		return "directives (%) are not used here"
	case token.LiteralType, token.FoldedType:
		return "a value is written in one line"
	case token.MappingKeyType:
		return "keys are written as in \"mtu: 1500\", without a question mark"
	}
	return ""
}

// checkTokens returns the first token that is not used here, or that is beyond a bound, and why; nil if all are well.
func (b bounds) checkTokens(tokens token.Tokens) (*token.Token, string) {
	items, flow := 0, 0
	for _, t := range tokens {
		if why := unused(t); why != "" {
			return t, why
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingValueType, token.CollectEntryType:
			items++
		}
		switch {
		case items > b.items:
			return t, fmt.Sprintf("the file has too many keys and items: want %d at most", b.items)
		case flow > maxFlow || flow <= 0 && begins(t) && t.Position.Column > maxColumn:
			return t, "the file is nested too deep"
		}
	}
	return nil, ""
}

// begins reports whether something begins with a token that others may lie in: an item, or a key.
func begins(t *token.Token) bool {
	return t.Type == token.SequenceEntryType || t.NextType() == token.MappingValueType
}
