package top

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	tea "charm.land/bubbletea/v2"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control"
)

// captures is a control socket with a capture, which goes on until the client has had enough.
func captures(t *testing.T) *control.Client {
	dir, err := os.MkdirTemp("", "vr")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	path := filepath.Join(dir, "ctl")
	socket, err := net.Listen("unix", path)
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/guests/10.0.2.15/capture" {
			http.Error(w, `{"error": "no such guest"}`, http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte("frames "))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		_, _ = w.Write([]byte("and the rest"))
	})}
	go func() { _ = server.Serve(socket) }()
	t.Cleanup(func() { _ = server.Close() })
	client := control.NewClient(path)
	t.Cleanup(client.Close)
	t.Chdir(t.TempDir())
	return client
}

// run does what a command of the page is for, and gives the page its message.
func (p *page) run(command tea.Cmd) (next tea.Cmd) {
	_, next = p.Update(command())
	return next
}

// written is the only file of the current directory.
func written(t *testing.T) (name, text string) {
	files, err := filepath.Glob("*")
	require.NoError(t, err)
	require.Len(t, files, 1)
	content, err := os.ReadFile(files[0])
	require.NoError(t, err)
	return files[0], string(content)
}

func TestAGuestIsCapturedUntilTheKeyIsPressedAgain(t *testing.T) {
	p := shown(t, readingAt(1))
	p.client = captures(t)
	writing := p.run(p.typed("c"))
	ended := make(chan tea.Msg, 1)
	go func() { ended <- writing() }()
	require.Regexp(t, `^CAPTURE vring-10\.0\.2\.15-\d{8}-\d{6}\.pcapng: `, p.text())
	require.Nil(t, p.run(p.typed("c")))
	p.Update(<-ended)
	name, text := written(t)
	require.Equal(t, "frames and the rest", text)
	require.Contains(t, p.text(), name+": 19 B")
	require.NotContains(t, p.text(), "CAPTURE")
	info, err := os.Stat(name)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}

func TestACaptureIsCompleteWhenThePageIsLeft(t *testing.T) {
	p := shown(t, readingAt(1))
	require.Empty(t, p.finish())
	p.client = captures(t)
	writing := p.run(p.typed("c"))
	go writing()
	name, _ := written(t)
	require.Equal(t, name+": 19 B", p.finish())
	_, text := written(t)
	require.Equal(t, "frames and the rest", text)
}

func TestACaptureThatIsRefusedIsTold(t *testing.T) {
	p := shown(t, readingAt(1))
	p.client = captures(t)
	p.guest = "10.0.2.16"
	require.Nil(t, p.run(p.typed("c")))
	require.Contains(t, p.text(), "no capture: no such guest")
	require.Nil(t, p.recording)
}
