package archtest

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	// namedThings is how the documentation names what the source declares: the last elements of the package's path, and
	// names. A name without a dot is the package's, or a member of the type of the name before it.
	namedThings = regexp.MustCompile(`^([a-z][a-z0-9/_]*): ([A-Za-z_][\w.]*(?:, [A-Za-z_][\w.]*)*)$`)
	// dotted is a name such as session.start or netbackend.Port.
	dotted = regexp.MustCompile(`^([A-Za-z_]\w*)\.([A-Za-z_]\w*(?:\.\w+)?)(?:, ([A-Za-z_]\w*))*$`)
	// camelCase is a name that only a program can have.
	camelCase = regexp.MustCompile(`^[a-z]+[A-Z]\w*$`)
	// dottedInComment is such a name in a comment.
	dottedInComment = regexp.MustCompile(`\b([a-z]\w*)\.([A-Za-z]\w*(?:\.[A-Za-z]\w*)?)\b`)
	// testInComment is the name of a test or a fuzz target.
	testInComment = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z][A-Za-z0-9]*[a-z]\b`)
)

// foreignFirsts are first elements of names that are not of our source.
var foreignFirsts = []string{
	"debug", "testing", // packages of Go's
	"net", "vm", // of a sysctl
	"h", // the harness in examples
}

// developerPages are those in which a name with a dot is always one of the source.
var developerPages = []string{"docs/design.md", "docs/nat-rules.md", "docs/testing.md"}

func TestWhatTheDocumentationNamesExists(t *testing.T) {
	files := sourceFiles(t)
	all, product := indexOf(files), indexOf(productOf(files))
	things, short := 0, 0
	for _, p := range pagesOf(t) {
		for _, span := range spans(p.prose()) {
			if m := namedThings.FindStringSubmatch(span); m != nil {
				things++
				for _, missing := range missingOf(all.packages(m[1]), m[2]) {
					t.Errorf("%s names `%s`: package %s has no %s", p.name, span, m[1], missing)
				}
			} else if m := dotted.FindStringSubmatch(span); m != nil && !fileName(span) && !slices.Contains(foreignFirsts, m[1]) {
				short++
				if missing := missingShort(all.packages(m[1]), product.typesNamed(m[1]), m[1], span, !slices.Contains(developerPages, p.name)); missing != "" {
					t.Errorf("%s names `%s`: there is no %s", p.name, span, missing)
				}
			} else if camelCase.MatchString(span) && !hasAnywhere(all, span) {
				t.Errorf("%s names `%s`, which there is not", p.name, span)
			}
		}
	}
	require.Greater(t, things, 100)
	require.Greater(t, short, 20)
}

// missingOf returns those of the names, separated by commas, that the packages do not have.
func missingOf(packages []*declared, names string) []string {
	var missing []string
	before := ""
	for _, name := range strings.Split(names, ", ") {
		if !has(packages, name) && (before == "" || !has(packages, before+"."+name)) {
			missing = append(missing, name)
		}
		if of, _, isMember := strings.Cut(name, "."); isMember {
			before = of
		}
	}
	return missing
}

// missingShort looks names up that are given without the package, or with the package in Go's manner; those behind a
// comma are members of the first one's type. packages and types are those with the first element's name. It returns what
// there is not. Without such packages and types it returns "" for a page that users read, since the name may be anything.
func missingShort(packages, types []*declared, first, span string, forUsers bool) string {
	if forUsers && len(packages) == 0 && len(types) == 0 {
		return ""
	}
	for _, name := range strings.Split(span, ", ") {
		name = strings.TrimPrefix(name, first+".")
		if !has(packages, name) && !has(types, first+"."+name) {
			return first + "." + name
		}
	}
	return ""
}

// fileName reports whether a name with a dot is that of a file.
func fileName(name string) bool {
	for _, suffix := range []string{".go", ".md", ".sh", ".conf", ".sock", ".service", ".xml", ".svg", ".rst"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// notNames are words with a dot in comments that look like names of ours.
var notNames = []string{
	"vring.shell", // an argument of the guest's kernel
}

func TestWhatCommentsNameExists(t *testing.T) {
	files := sourceFiles(t)
	c := commentChecker{all: indexOf(files), product: indexOf(productOf(files)), packages: map[string]bool{}}
	for dir := range c.all {
		c.packages[filepath.Base(dir)] = true
	}
	for _, f := range files {
		for _, group := range f.syntax.Comments {
			for _, name := range c.missing(group.Text()) {
				t.Errorf("%s names %s, which there is not", f.name, name)
			}
		}
	}
	require.Greater(t, c.found, 80)
}

// A commentChecker looks for names in comments.
type commentChecker struct {
	all, product index
	packages     map[string]bool // by their last elements
	found        int
}

// missing returns what a comment names and there is not: tests, and names in the form package.Name, Type.member or
// package.Type.member.
func (c *commentChecker) missing(text string) []string {
	var missing []string
	for _, m := range dottedInComment.FindAllStringSubmatch(text, -1) {
		types := c.product.typesNamed(m[1])
		if !c.packages[m[1]] && len(types) == 0 || fileName(m[0]) || slices.Contains(notNames, m[0]) {
			continue
		}
		c.found++
		if !has(c.all.packages(m[1]), m[2]) && !has(types, m[0]) {
			missing = append(missing, m[0])
		}
	}
	for _, name := range testInComment.FindAllString(text, -1) {
		c.found++
		if !hasAnywhere(c.all, name) {
			missing = append(missing, name)
		}
	}
	return missing
}

// hasAnywhere reports whether any package has the name, or a type with such a member.
func hasAnywhere(all index, name string) bool {
	for _, d := range all {
		if d.names[name] {
			return true
		}
		for _, members := range d.members {
			if members[name] {
				return true
			}
		}
	}
	return false
}
