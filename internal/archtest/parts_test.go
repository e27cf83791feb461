package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// part is an owner of state in package nat.
type part struct {
	typ   string // its type
	field string // how others that have it call it
}

// parts are the owners in their order: one knows only earlier ones. docs/design.md says what each has.
var parts = []part{
	{"linkLayer", "link"}, {"icmpSender", "icmp"}, {"sourceKeeper", "sources"}, {"fragmenter", "fragments"},
	{"listenerSet", "listeners"}, {"gateKeeper", "gates"},
	{"tcpEngine", "tcp"}, {"udpEngine", "udp"}, {"pingEngine", "ping"},
	{"nameRelay", "names"}, {"acceptor", "inbound"}, {"groupReflector", "groups"}, {"localServices", "services"},
	{"Port", "port"},
}

// ofProtocol is what of a connection belongs to one part, or to functions of the connection itself.
var ofProtocol = map[string]string{"tcp": "tcpEngine"}

// inside are methods that lead to what is a part's own. Only that part uses them.
var inside = []string{"tcpEngine.conn", "tcpEngine.begin", "udpEngine.of", "udpEngine.begin"}

// wiring is the method of Port that gives each part what it uses. It alone reaches into parts, and may take one as a whole.
const wiring = "connectParts"

func TestPartsOfTheEngineKeepToThemselves(t *testing.T) {
	var files []sourceFile
	for _, f := range productOf(sourceFiles(t)) {
		if path.Dir(f.name) == "netbackend/nat" {
			files = append(files, f)
		}
	}
	require.Greater(t, len(files), 50)
	require.Empty(t, faultsOfParts(files))
}

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

// engine is a package of two parts, with body in a method named name of a type.
func engine(t *testing.T, typ, name, body string) []sourceFile {
	text := fmt.Sprintf("package nat\ntype tcpEngine struct { link *linkLayer; watches watchTimes }\n"+
		"func (e *tcpEngine) watch() {}\nfunc (e *tcpEngine) conn() {}\nfunc (p *%s) %s() { %s }\n", typ, name, body)
	syntax, err := parser.ParseFile(token.NewFileSet(), "engine.go", text, parser.SkipObjectResolution)
	require.NoError(t, err)
	return []sourceFile{{syntax: syntax}}
}

func TestOnlyOneFunctionReachesIntoParts(t *testing.T) {
	for _, c := range []struct {
		typ, name, body string
		faults          int
	}{
		{"Port", "Turn", "p.tcp.watch()", 0},
		{"Port", "Turn", "p.tcp.conn()", 1},
		{"tcpEngine", "serve", "e.conn().tcp.rto = 0", 0},
		{"nameRelay", "serve", "e.tcp.conn()", 1},
		{"nameRelay", "serve", "f.tcp.rto = 0", 1},
		{"Port", "Turn", "p.tcp.watches.next()", 1},
		{"Port", "Turn", "p.tcp.watches = watchTimes{}", 1},
		{"Port", "connectParts", "p.tcp.watches = watchTimes{}", 0},
		{"Port", "connect", "p.tcp.watches = watchTimes{}", 1},
		{"Port", "newPort", "func() { p.tcp.watches.next() }()", 1},
		{"Port", "Turn", "e := &p.tcp; e.watches.next()", 1},
		{"Port", "Turn", "p.tcp = tcpEngine{}", 1},
		{"chunk", "each", "p.tcp.watches.next()", 1},
		{"tcpEngine", "connectParts", "p.link.arpServer = nil", 1},
		{"tcpEngine", "connect", "p.link.arpServer = nil", 1},
	} {
		faults := faultsOfParts(engine(t, c.typ, c.name, c.body))
		require.Len(t, faults, c.faults, "%s.%s: %s", c.typ, c.name, c.body)
	}
}

// faultsOfParts returns where parts know later ones, or use what is another's.
func faultsOfParts(files []sourceFile) (faults []string) {
	methods := map[string]bool{} // "type.name"
	for _, f := range files {
		for _, d := range f.syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv != nil {
					methods[receiver(d.Recv.List[0].Type)+"."+d.Name.Name] = true
				}
			case *ast.GenDecl:
				faults = append(faults, faultsOfTypes(d)...)
			}
		}
	}
	for _, f := range files {
		for _, d := range f.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				faults = append(faults, faultsOfFunction(fn, methods)...)
			}
		}
	}
	return faults
}

// faultsOfTypes returns what parts have that they must not.
func faultsOfTypes(d *ast.GenDecl) (faults []string) {
	for _, spec := range d.Specs {
		s, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		st, ok := s.Type.(*ast.StructType)
		if !ok {
			continue
		}
		self := indexOfPart(s.Name.Name)
		for _, field := range st.Fields.List {
			other := indexOfPart(receiver(field.Type))
			switch {
			case other < 0:
			case self >= 0 && other >= self:
				faults = append(faults, fmt.Sprintf("%s has a %s, which is a later part", s.Name.Name, parts[other].typ))
			}
		}
	}
	return faults
}

// faultsOfFunction returns what a function uses that is not its part's.
func faultsOfFunction(fn *ast.FuncDecl, methods map[string]bool) (faults []string) {
	of := ""
	if fn.Recv != nil {
		of = receiver(fn.Recv.List[0].Type)
	}
	if of == "Port" && fn.Name.Name == wiring {
		return nil
	}
	isPart := indexOfPart(of) >= 0
	fault := func(what, owner string) {
		faults = append(faults, fmt.Sprintf("%s.%s uses %s, which is the %s's own", of, fn.Name.Name, what, owner))
	}
	asked := map[ast.Expr]bool{} // parts of which a method is used
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if owner := ofProtocol[sel.Sel.Name]; owner != "" && isFlow(sel.X) && isPart && of != owner {
			fault(sel.Sel.Name+" of a flow", owner)
		}
		if owner := partIn(sel.X, isPart); owner != "" {
			asked[sel.X] = true
			if name := owner + "." + sel.Sel.Name; !methods[name] || slices.Contains(inside, name) {
				fault(sel.Sel.Name, owner)
			}
		}
		if owner := partIn(sel, false); owner != "" && !asked[sel] {
			fault("the whole", owner)
		}
		return true
	})
	return faults
}

// partIn returns the type of the part that an expression such as p.tcp is; empty if it is none. The variable before the dot is
// that of a Port, by its name, or in a part's method any other.
func partIn(e ast.Expr, isPart bool) (typ string) {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok || isFlow(sel.X) {
		return ""
	}
	holder, ok := sel.X.(*ast.Ident)
	i := slices.IndexFunc(parts, func(p part) bool { return p.field == sel.Sel.Name })
	if !ok || i < 0 || !isPart && holder.Name != "p" {
		return ""
	}
	return parts[i].typ
}

// isFlow reports whether an expression is a flow, by its name.
func isFlow(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "f"
}

func indexOfPart(typ string) int {
	return slices.IndexFunc(parts, func(p part) bool { return p.typ == typ })
}
