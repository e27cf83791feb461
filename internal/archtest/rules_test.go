package archtest

import (
	"go/ast"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	numberedTest = regexp.MustCompile(`^Test((?:[TSPGAEID]\d+)+)[A-Z]`)
	ruleNumber   = regexp.MustCompile(`[TSPGAEID]\d+`)
	ruleRow      = regexp.MustCompile(`(?m)^\| ([TSPGAEID]\d+) \| (.+) \| (.*) \|$`)
)

// The numbers in names of the engine's tests are those of docs/nat-rules.md, and each rule there names tests with its
// number.
func TestNumberedTestsAndRulesBelongTogether(t *testing.T) {
	rules := map[string]string{} // the cell with the tests, by number
	for _, p := range pagesOf(t) {
		if p.name == "docs/nat-rules.md" {
			for _, m := range ruleRow.FindAllStringSubmatch(p.text, -1) {
				rules[m[1]] = m[3]
			}
		}
	}
	require.Greater(t, len(rules), 60)
	tests := 0
	for _, f := range sourceFiles(t) {
		if f.dir != "netbackend/nat" || !f.isTest() {
			continue
		}
		for _, d := range f.syntax.Decls {
			if d, ok := d.(*ast.FuncDecl); ok {
				for _, number := range numbersOf(d.Name.Name) {
					tests++
					if !strings.Contains(rules[number], "`nat: "+d.Name.Name+"`") {
						t.Errorf("rule %s in docs/nat-rules.md does not name %s", number, d.Name.Name)
					}
				}
			}
		}
	}
	require.Greater(t, tests, 100)
	for number, cell := range rules {
		if cell == "" {
			t.Errorf("rule %s in docs/nat-rules.md names no test", number)
		}
	}
}

// numbersOf returns the numbers of rules in the name of a test.
func numbersOf(name string) []string {
	m := numberedTest.FindStringSubmatch(name)
	if m == nil {
		return nil
	}
	return ruleNumber.FindAllString(m[1], -1)
}
