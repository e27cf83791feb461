package top

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/vringnet/vring/internal/control"
)

// Run shows the vring whose control socket is at a path until the user quits or ctx ends. in and out are a terminal, which is left as it
// was.
func Run(ctx context.Context, path string, in io.Reader, out io.Writer) error {
	client := control.NewClient(path)
	defer client.Close()
	asking, cancel := context.WithCancel(ctx)
	defer cancel() // of questions under way
	p := newPage(asking, client, path, glyphsFor(os.Environ()))
	_, err := tea.NewProgram(p, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler()).Run()
	if told := p.finish(); told != "" {
		fmt.Fprintln(out, told)
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// glyphsFor returns the glyphs that a terminal with this environment can show; see locale(7).
func glyphsFor(env []string) []rune {
	for _, name := range []string{"LC_ALL=", "LC_CTYPE=", "LANG="} {
		for _, v := range env {
			if value, ok := strings.CutPrefix(v, name); ok && value != "" {
				return glyphsOf(value)
			}
		}
	}
	return ascii
}

// glyphsOf returns the glyphs of a locale.
func glyphsOf(locale string) []rune {
	locale = strings.ToLower(locale)
	if strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8") {
		return blocks
	}
	return ascii
}
