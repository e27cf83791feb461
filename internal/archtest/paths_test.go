package archtest

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// projectFile is a name that only a file of the project's can have in the documentation, with directories before it or not.
var projectFile = regexp.MustCompile(`^[\w./-]+\.go$`)

// madePlaces are directories that programs of the project make.
var madePlaces = []string{"bench/results"}

// namesAPath reports whether a code span of the documentation names a file or a directory of the project: a Go file, or what
// begins with a directory of the root.
func namesAPath(span string, roots map[string]bool) bool {
	if strings.ContainsAny(span, " :*…=") || slices.Contains(madePlaces, span) {
		return false
	}
	first, _, deeper := strings.Cut(span, "/")
	return projectFile.MatchString(span) || deeper && roots[first]
}

// pathsOf returns the files of the project and their directories, and which directories the root has.
func pathsOf(t *testing.T) (all, roots map[string]bool) {
	all, roots = map[string]bool{}, map[string]bool{}
	root := projectRoot(t)
	err := filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
		if err != nil || at == root {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		name, err := filepath.Rel(root, at)
		all[name] = true
		if d.IsDir() && filepath.Dir(name) == "." {
			roots[name] = true
		}
		return err
	})
	require.NoError(t, err)
	return all, roots
}

// hasPath reports whether the project has a path, or for a Go file one that ends with it.
func hasPath(all map[string]bool, name string) bool {
	name = strings.TrimSuffix(name, "/")
	if all[name] || !strings.HasSuffix(name, ".go") {
		return all[name]
	}
	for known := range all {
		if strings.HasSuffix(known, "/"+name) {
			return true
		}
	}
	return false
}

func TestFilesAndDirectoriesThatTheDocumentationNamesExist(t *testing.T) {
	all, roots := pathsOf(t)
	found := 0
	for _, p := range pagesOf(t) {
		for _, span := range spans(p.prose()) {
			if !namesAPath(span, roots) {
				continue
			}
			found++
			if !hasPath(all, span) {
				t.Errorf("%s names `%s`, which there is not", p.name, span)
			}
		}
	}
	require.Greater(t, found, 60)
}

func TestAPathOfTheProjectIsToldFromOtherWords(t *testing.T) {
	roots := map[string]bool{"netbackend": true}
	all := map[string]bool{"netbackend": true, "netbackend/nat": true, "netbackend/nat/tcp.go": true}
	for span, want := range map[string]struct{ path, exists bool }{
		"netbackend/nat":        {true, true},
		"netbackend/nat/tcp.go": {true, true},
		"nat/tcp.go":            {true, true},
		"tcp.go":                {true, true},
		"at/tcp.go":             {true, false},
		"netbackend/tcp.go":     {true, false},
		"netbackend/gone":       {true, false},
		"gone.go":               {true, false},
		"netbackend":            {false, true},
		"etc/passwd":            {false, false},
		"netbackend/nat: Port":  {false, false},
		"go test netbackend/x":  {false, false},
	} {
		require.Equal(t, want.path, namesAPath(span, roots), span)
		require.Equal(t, want.exists, hasPath(all, span), span)
	}
}
