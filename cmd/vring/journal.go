package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/coreos/go-systemd/v22/journal"
)

// isJournal reports whether w is this program's standard error, and systemd's journal reads it (JOURNAL_STREAM in
// systemd.exec(5)).
func isJournal(w io.Writer) bool {
	if w != io.Writer(os.Stderr) {
		return false
	}
	is, err := journal.StderrIsJournalStream()
	return is && err == nil
}

// withoutTime drops the time of a log line, for a log whose reader adds it. For slog.HandlerOptions.ReplaceAttr.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
