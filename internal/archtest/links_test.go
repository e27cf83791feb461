package archtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

var (
	heading  = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	linkForm = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	remote   = regexp.MustCompile(`^[a-z]+:`)
)

func TestEveryPageIsLinkedFromTheREADME(t *testing.T) {
	pages := pagesOf(t)
	linked := map[string]bool{"README.md": true}
	for _, p := range pages {
		if p.name == "README.md" {
			for _, target := range linksOf(p) {
				file, _, _ := strings.Cut(target, "#")
				linked[file] = true
			}
		}
	}
	for _, p := range pages {
		if !linked[p.name] {
			t.Errorf("README.md does not link to %s", p.name)
		}
	}
	require.Greater(t, len(pages), 8)
}

func TestLinksOfTheDocumentationLeadSomewhere(t *testing.T) {
	root := projectRoot(t)
	pages := pagesOf(t)
	anchors := map[string]map[string]bool{}
	for _, p := range pages {
		anchors[p.name] = anchorsOf(p)
	}
	found := 0
	for _, p := range pages {
		for _, target := range linksOf(p) {
			found++
			if fault := follow(root, p.name, target, anchors); fault != "" {
				t.Errorf("%s links to %s: %s", p.name, target, fault)
			}
		}
	}
	require.Greater(t, found, 40)
}

// linksOf returns the targets of the page's links to this repository.
func linksOf(p page) []string {
	var targets []string
	for _, m := range linkForm.FindAllStringSubmatch(p.prose(), -1) {
		if !remote.MatchString(m[1]) {
			targets = append(targets, m[1])
		}
	}
	return targets
}

// follow returns what is wrong with a link from a page, "" if nothing is.
func follow(root, from, target string, anchors map[string]map[string]bool) string {
	file, anchor, hasAnchor := strings.Cut(target, "#")
	name := from
	if file != "" {
		name = filepath.Join(filepath.Dir(from), file)
	}
	if _, err := os.Stat(filepath.Join(root, name)); err != nil {
		return "there is no such file"
	}
	if hasAnchor && !anchors[name][anchor] {
		return "there is no such heading"
	}
	return ""
}

// anchorsOf returns the anchors of the page's headings, formed as GitHub forms them.
func anchorsOf(p page) map[string]bool {
	anchors := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(p.prose(), -1) {
		anchor := anchorOf(m[1])
		for base, n := anchor, 1; anchors[anchor]; n++ {
			anchor = fmt.Sprintf("%s-%d", base, n)
		}
		anchors[anchor] = true
	}
	return anchors
}

// anchorOf returns a heading in lower case, with hyphens for spaces, and without punctuation.
func anchorOf(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}
