package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A sourceFile is a parsed file of the repository, whatever module of it and whatever its build constraints.
type sourceFile struct {
	dir, name string // below the project's root
	syntax    *ast.File
}

// isTest reports whether the file is compiled for tests only.
func (f sourceFile) isTest() bool { return strings.HasSuffix(f.name, "_test.go") }

// isProduct reports whether the file is part of the product.
func (f sourceFile) isProduct() bool {
	return !f.isTest() && !withinAny(f.dir, testOnly)
}

// productOf returns those of the files that are part of the product.
func productOf(files []sourceFile) []sourceFile {
	var product []sourceFile
	for _, f := range files {
		if f.isProduct() {
			product = append(product, f)
		}
	}
	return product
}

// sourceFiles parses all Go files below the project's root, with their comments.
func sourceFiles(t *testing.T) []sourceFile {
	root := projectRoot(t)
	fset := token.NewFileSet()
	var files []sourceFile
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		syntax, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		name, err := filepath.Rel(root, path)
		require.NoError(t, err)
		files = append(files, sourceFile{dir: filepath.Dir(name), name: name, syntax: syntax})
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, len(files), 200)
	return files
}

// A declared holds the names of a package: those at package level, and the members of each type.
type declared struct {
	names   map[string]bool
	members map[string]map[string]bool // fields and methods, by type
}

// An index holds the names of all packages, by directory.
type index map[string]*declared

// indexOf returns the names that the files declare. Names of test files count for their directory's package.
func indexOf(files []sourceFile) index {
	all := index{}
	for _, f := range files {
		d := all[f.dir]
		if d == nil {
			d = &declared{names: map[string]bool{}, members: map[string]map[string]bool{}}
			all[f.dir] = d
		}
		for _, decl := range f.syntax.Decls {
			d.add(decl)
		}
	}
	return all
}

func (d *declared) add(decl ast.Decl) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Recv == nil {
			d.names[decl.Name.Name] = true
		} else {
			d.addMember(receiver(decl.Recv.List[0].Type), decl.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			d.addSpec(spec)
		}
	}
}

func (d *declared) addSpec(spec ast.Spec) {
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			d.names[name.Name] = true
		}
	case *ast.TypeSpec:
		d.names[spec.Name.Name] = true
		var fields *ast.FieldList
		switch body := spec.Type.(type) {
		case *ast.StructType:
			fields = body.Fields
		case *ast.InterfaceType:
			fields = body.Methods
		default:
			return
		}
		for _, field := range fields.List {
			for _, name := range fieldNames(field) {
				d.addMember(spec.Name.Name, name)
			}
		}
	}
}

// fieldNames returns the names of a field; that of an embedded one is its type's.
func fieldNames(field *ast.Field) []string {
	var names []string
	for _, name := range field.Names {
		names = append(names, name.Name)
	}
	if len(names) == 0 {
		names = append(names, receiver(field.Type))
	}
	return names
}

func (d *declared) addMember(of, name string) {
	if d.members[of] == nil {
		d.members[of] = map[string]bool{}
	}
	d.members[of][name] = true
}

// receiver returns the name of a receiver's type, or of an embedded one.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// packages returns the packages whose directories are pkg or end with it.
func (x index) packages(pkg string) []*declared {
	var found []*declared
	for dir, d := range x {
		if dir == pkg || strings.HasSuffix(dir, "/"+pkg) {
			found = append(found, d)
		}
	}
	return found
}

// has reports whether one of the packages has the name at package level, or the member in the form Type.Member.
func has(packages []*declared, name string) bool {
	of, member, isMember := strings.Cut(name, ".")
	member, _, _ = strings.Cut(member, ".") // a field of a field is not followed
	for _, d := range packages {
		if !isMember && d.names[name] || isMember && d.members[of][member] {
			return true
		}
	}
	return false
}

// typesNamed returns the packages that have a type of that name with members.
func (x index) typesNamed(name string) []*declared {
	var found []*declared
	for _, d := range x {
		if d.members[name] != nil {
			found = append(found, d)
		}
	}
	return found
}

// literals returns the values of the product's string constants, those of constant sums as one.
func literals(files []sourceFile) []string {
	var all []string
	for _, f := range productOf(files) {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if e, ok := n.(ast.Expr); ok {
				if text, ok := constant(e); ok {
					all = append(all, text)
					return false
				}
			}
			return true
		})
	}
	return all
}

// constant returns the value of a string literal, or of a sum of such.
func constant(e ast.Expr) (value string, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		value, err := strconv.Unquote(e.Value)
		return value, err == nil
	case *ast.BinaryExpr:
		left, okLeft := constant(e.X)
		right, okRight := constant(e.Y)
		return left + right, e.Op == token.ADD && okLeft && okRight
	}
	return "", false
}
