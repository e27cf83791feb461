package report

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// WriteFiles writes the document as NAME.json, NAME.md and NAME.svg into a folder, which it makes if need be.
func (r Result) WriteFiles(folder, name string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	base := filepath.Join(folder, name)
	return errors.Join(
		writeFile(base+".json", r.WriteJSON),
		writeFile(base+".md", r.WriteMarkdown),
		writeFile(base+".svg", r.WriteSVG))
}

// WriteJSON writes the document with every sample.
func (r Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
