package terminal

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
)

// Terminal is a program in a terminal. Any goroutine may use it.
type Terminal struct {
	cmd             *exec.Cmd
	master          *os.File
	shown, answered sync.WaitGroup // what the program writes, and what the terminal answers to that

	mu     sync.Mutex
	screen *vt.Emulator // guarded by mu, but for Read
}

// Start starts cmd with a terminal of so many columns and rows as its standard input, output and error.
func Start(cmd *exec.Cmd, width, height int) (*Terminal, error) {
	cmd.Env = append(cmd.Environ(), "TERM=xterm-256color", "LC_ALL=C.UTF-8")
	t := &Terminal{cmd: cmd, screen: vt.NewEmulator(width, height)}
	var err error
	if t.master, err = pty.StartWithSize(cmd, &pty.Winsize{Cols: uint16(width), Rows: uint16(height)}); err != nil {
		return nil, err
	}
	t.shown.Go(t.show)
	t.answered.Go(func() { _, _ = io.Copy(t.master, t.screen) }) // until the screen is closed
	return t, nil
}

// show shows what the program writes until it has ended.
func (t *Terminal) show() {
	buf := make([]byte, 32<<10)
	for {
		n, err := t.master.Read(buf)
		t.mu.Lock()
		_, _ = t.screen.Write(buf[:n])
		t.mu.Unlock()
		if err != nil { // EIO is that nobody has the terminal open any more
			return
		}
	}
}

// Screen returns the text on the screen, a line for each row.
func (t *Terminal) Screen() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(ansi.Strip(t.screen.Render()), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \r")
	}
	return strings.Join(lines, "\n")
}

// IsAlternate reports whether the program shows a page in the place of the lines before it; see DECSET 1049 of xterm.
func (t *Terminal) IsAlternate() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.screen.IsAltScreen()
}

// Type presses keys: characters, or what xterm sends for other keys.
func (t *Terminal) Type(keys string) error {
	_, err := io.WriteString(t.master, keys)
	return err
}

// Resize gives the terminal another size.
func (t *Terminal) Resize(width, height int) error {
	t.mu.Lock()
	t.screen.Resize(width, height)
	t.mu.Unlock()
	return pty.Setsize(t.master, &pty.Winsize{Cols: uint16(width), Rows: uint16(height)})
}

// Wait waits for the end of the program. The screen stays readable.
func (t *Terminal) Wait() error {
	err := t.cmd.Wait()
	t.shown.Wait()
	_ = t.screen.Close()
	t.answered.Wait()
	_ = t.master.Close()
	return err
}

// Kill ends the program.
func (t *Terminal) Kill() error { return t.cmd.Process.Kill() }
