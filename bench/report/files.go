package report

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// Document is what a benchmark has to tell. As JSON it is what its type marshals to.
type Document interface {
	WriteMarkdown(w io.Writer) error
	WriteSVG(w io.Writer) error
}

// WriteFiles writes the document as NAME.json, NAME.md and NAME.svg into a folder, which it makes if need be. What is there
// of an earlier call is replaced.
func WriteFiles(d Document, folder, name string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	base := filepath.Join(folder, name)
	return errors.Join(
		writeFile(base+".json", func(w io.Writer) error { return writeJSON(w, d) }),
		writeFile(base+".md", d.WriteMarkdown),
		writeFile(base+".svg", d.WriteSVG))
}

func writeJSON(w io.Writer, document any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(document)
}

// writeFile writes a file whole or not at all.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), path)
}
