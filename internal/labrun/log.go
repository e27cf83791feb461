package labrun

import (
	"errors"
	"os"
	"sync"
)

// maxLog is how many bytes of a log are kept at least, and half of those that are kept at most.
const maxLog = 1 << 20

// boundedLog is a file that is begun anew when it is full. What was in it before is kept in one more file, with ".1" behind its name.
type boundedLog struct {
	path string

	mu   sync.Mutex
	file *os.File
	size int
}

func openLog(path string) (*boundedLog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	return &boundedLog{path: path, file: f}, err
}

// Write implements io.Writer. A program is not held up, nor ended, because its log cannot be written: what it prints is lost then.
func (l *boundedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+len(p) > maxLog && l.size > 0 {
		l.turn()
	}
	n, _ := l.file.Write(p)
	l.size += n
	return len(p), nil
}

// turn begins the file anew. If that fails, it is begun in its place.
func (l *boundedLog) turn() {
	l.size = 0
	if os.Rename(l.path, l.path+".1") == nil {
		if f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err == nil {
			_ = l.file.Close()
			l.file = f
			return
		}
	}
	_ = l.file.Truncate(0)
	_, _ = l.file.Seek(0, 0)
}

func (l *boundedLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.file.Close())
}

// maxTail is how much of the end of a log is told.
const maxTail = 4 << 10

// tail is the end of a log, as far as it can be read.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > maxTail {
		_, _ = f.Seek(-maxTail, 2)
	}
	text := make([]byte, maxTail)
	n, _ := f.Read(text)
	return string(text[:n])
}
