package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"testing"

	"github.com/stretchr/testify/require"
)

// A turn is passed as an argument: what is valid during one must not be used after it. Only Port, which begins turns, has one.
func TestNobodyKeepsATurn(t *testing.T) {
	of := func(text string) []string {
		syntax, err := parser.ParseFile(token.NewFileSet(), "part.go", "package part\n"+text, parser.SkipObjectResolution)
		require.NoError(t, err)
		return keepersOfTurns([]sourceFile{{name: "part.go", syntax: syntax}})
	}
	require.Empty(t, of("type engine struct { shard *shard.Shard }; func serve(t *shard.Turn) { u := t; u.Send(nil) }"))
	require.Empty(t, of("type hooks struct { evicted func(*shard.Turn) }"))
	require.Len(t, of("type engine struct { t *shard.Turn }"), 1)
	require.Len(t, of("type engine struct { all []*shard.Turn }"), 1)
	require.Len(t, of("type engine struct { *shard.Turn }"), 1)
	require.Len(t, of("type last *shard.Turn"), 1)
	require.Len(t, of("var last *shard.Turn"), 1)

	var files []sourceFile
	for _, f := range productOf(sourceFiles(t)) {
		if within(path.Dir(f.name), "netbackend/nat") && path.Dir(f.name) != "netbackend/nat/internal/shard" {
			files = append(files, f)
		}
	}
	require.Equal(t, []string{"netbackend/nat/port.go: Port"}, keepersOfTurns(files))
}

// keepersOfTurns returns the types and variables of packages that hold a turn.
func keepersOfTurns(files []sourceFile) (keepers []string) {
	for _, f := range files {
		for _, d := range f.syntax.Decls {
			gen, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range gen.Specs {
				name := ""
				switch s := spec.(type) {
				case *ast.TypeSpec:
					name = s.Name.Name
				case *ast.ValueSpec:
					name = s.Names[0].Name
				}
				if holdsTurn(spec) {
					keepers = append(keepers, f.name+": "+name)
				}
			}
		}
	}
	return keepers
}

// holdsTurn reports whether a declaration names the type of turns elsewhere than in the arguments of a function.
func holdsTurn(n ast.Node) (holds bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		if _, ok := n.(*ast.FuncType); ok {
			return false
		}
		sel, ok := n.(*ast.SelectorExpr)
		if ok && sel.Sel.Name == "Turn" {
			x, ok := sel.X.(*ast.Ident)
			holds = holds || ok && x.Name == "shard"
		}
		return true
	})
	return holds
}
