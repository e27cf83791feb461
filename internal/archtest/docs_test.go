package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A page is README.md or a page in docs/.
type page struct {
	name string // below the project's root
	text string
}

// pagesOf returns all pages of the documentation.
func pagesOf(t *testing.T) []page {
	root := projectRoot(t)
	paths, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	var pages []page
	for _, path := range append(paths, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		name, err := filepath.Rel(root, path)
		require.NoError(t, err)
		pages = append(pages, page{name: name, text: string(text)})
	}
	return pages
}

var (
	fencedBlock = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	codeSpan    = regexp.MustCompile("`([^`]+)`")
	blankLine   = regexp.MustCompile(`\n\s*\n`)
)

// prose returns the page without fenced blocks.
func (p page) prose() string {
	return fencedBlock.ReplaceAllString(p.text, "")
}

// spans returns what stands between backquotes in prose, with single spaces for line breaks.
func spans(prose string) []string {
	var all []string
	for _, paragraph := range blankLine.Split(prose, -1) {
		for _, m := range codeSpan.FindAllStringSubmatch(paragraph, -1) {
			all = append(all, strings.Join(strings.Fields(m[1]), " "))
		}
	}
	return all
}

// code returns the lines of fenced blocks, joined where they end with a backslash, and the code spans.
func (p page) code() []string {
	var lines []string
	for _, block := range fencedBlock.FindAllString(p.text, -1) {
		lines = append(lines, strings.Split(strings.ReplaceAll(block, "\\\n", " "), "\n")...)
	}
	return append(lines, spans(p.prose())...)
}
