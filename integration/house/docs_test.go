package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// namedTest is how the documentation names a test: the last elements of the package's path, and the function.
var namedTest = regexp.MustCompile("`([a-z0-9/]+): ((?:Test|Fuzz)[A-Za-z0-9_]+)`")

func TestTestsThatTheDocumentationNamesExist(t *testing.T) {
	root := projectRoot(t)
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	tests := testsByDirectory(t, root)
	found := 0
	for _, page := range append(pages, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range namedTest.FindAllStringSubmatch(string(text), -1) {
			found++
			if !exists(tests, m[1], m[2]) {
				t.Errorf("%s names `%s: %s`, which there is not", filepath.Base(page), m[1], m[2])
			}
		}
	}
	require.Greater(t, found, 50)
}

// exists tells whether a directory whose path ends with pkg has the test.
func exists(tests map[string][]string, pkg, name string) bool {
	for dir, names := range tests {
		if dir != pkg && !strings.HasSuffix(dir, "/"+pkg) {
			continue
		}
		for _, n := range names {
			if n == name {
				return true
			}
		}
	}
	return false
}

// testsByDirectory lists the functions of all test files, by directory below root.
func testsByDirectory(t *testing.T, root string) map[string][]string {
	tests := map[string][]string{}
	for _, p := range listPackages(t) {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*_test.go"))
		require.NoError(t, err)
		dir, err := filepath.Rel(root, p.Dir)
		require.NoError(t, err)
		for _, path := range files {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
					tests[dir] = append(tests[dir], f.Name.Name)
				}
			}
		}
	}
	return tests
}
