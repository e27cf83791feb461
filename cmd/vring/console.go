package main

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/vringnet/vring/internal/daemon"
)

// console is standard error: the log, and reports for a person between its lines. With --log-format json a report is one
// object, like a line of the log, so that whoever reads the log can read all of it.
type console struct {
	w    io.Writer
	json slog.Handler // nil for text
}

// newConsole returns a console that prints in a format of the log.
func newConsole(w io.Writer, format string) console {
	if format == daemon.FormatJSON {
		return console{w: w, json: slog.NewJSONHandler(w, nil)}
	}
	return console{w: w}
}

// print prints a report: lines of text, or a message with its values. Each report is one write.
func (c console) print(lines string, level slog.Level, message string, values ...any) {
	if c.json == nil {
		_, _ = io.WriteString(c.w, lines)
		return
	}
	record := slog.NewRecord(time.Now(), level, message, 0)
	record.Add(values...)
	_ = c.json.Handle(context.Background(), record) // as for text: nobody is left who could be told
}

// wantsJSON reports whether a command line asks for a log in JSON, even if it is wrong otherwise.
func wantsJSON(args []string) bool {
	for i, arg := range args {
		name, value, joined := strings.Cut(arg, "=")
		if name != "--log-format" {
			continue
		}
		if joined && value == daemon.FormatJSON || !joined && i+1 < len(args) && args[i+1] == daemon.FormatJSON {
			return true
		}
	}
	return false
}
