package presets

import (
	"embed"
	"io/fs"
	"path"
	"strings"

	"github.com/vringnet/vring/netbackend/nat/spec"
)

//go:embed groups
var files embed.FS

const (
	folder    = "groups"
	extension = ".names"
)

// Preset is a group of names.
type Preset struct {
	Name  string   // what rules call it, behind "@"
	About string   // what it is for, and what it leaves out
	Names []string // as they stand in rules
	Text  string   // the file, as a user would write it
}

// All returns all groups, in the order of their names.
func All() []Preset {
	paths, err := fs.Glob(files, folder+"/*"+extension)
	if err != nil {
		panic(err) // the pattern is one
	}
	var all []Preset
	for _, p := range paths {
		text, err := files.ReadFile(p)
		if err != nil {
			panic(err) // a file that was compiled in is there
		}
		all = append(all, read(strings.TrimSuffix(path.Base(p), extension), string(text)))
	}
	return all
}

// Group returns the names of a group; ok is false if there is none of that name.
func Group(name string) (names []string, ok bool) {
	text, err := files.ReadFile(folder + "/" + name + extension) // a file system of fs.FS has no ".."
	if err != nil {
		return nil, false
	}
	return read(name, string(text)).Names, true
}

// read reads the file of a group.
func read(name, text string) Preset {
	names, err := spec.ParseNameList(text)
	if err != nil {
		panic(err) // what was compiled in was tested
	}
	p := Preset{Name: name, Names: names, Text: text}
	for line := range strings.Lines(text) {
		if about, found := strings.CutPrefix(line, "# "+name+": "); found {
			p.About = strings.TrimSpace(about)
		}
	}
	return p
}
