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

// WriteFiles writes the document as NAME.json, NAME.md and NAME.svg into a folder, which it makes if need be.
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

func writeJSON(w io.Writer, d Document) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(d)
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
