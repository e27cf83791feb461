package source

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// overlay is what "go build" sees at a path: the file to read instead, or "" for no file. See "go help build", -overlay.
type overlay map[string]string

// directory makes the Go files of the directory from seen in place of those in to. Files that only to has are not seen.
func (o overlay) directory(from, to string) error {
	for _, place := range []string{to, from} {
		files, err := filepath.Glob(filepath.Join(place, "*.go"))
		if err != nil {
			return err
		}
		for _, f := range files {
			seen := f
			if place == to {
				seen = ""
			}
			o[filepath.Join(to, filepath.Base(f))] = seen
		}
	}
	return nil
}

var oldClause = regexp.MustCompile(`(?m)^package natguest$`)

// guest makes the guest without a machine seen where bench/turns imports it from. Source trees from before it moved there
// have it as netbackend/nat/natguest. Copies of its files go to dir.
func (o overlay) guest(tree, dir string) error {
	files, err := filepath.Glob(filepath.Join(tree, "netbackend/nat/natguest", "*.go"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		seen := filepath.Join(dir, "porttest_"+filepath.Base(f))
		if err := os.WriteFile(seen, oldClause.ReplaceAll(text, []byte("package porttest")), 0o644); err != nil {
			return err
		}
		o[filepath.Join(tree, "netbackend/porttest", filepath.Base(f))] = seen
	}
	return nil
}

// write writes the overlay for "go build" to a file in dir.
func (o overlay) write(dir string) (file string, err error) {
	text, err := json.Marshal(map[string]any{"Replace": o})
	if err != nil {
		return "", err
	}
	file = filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, text, 0o644)
}
