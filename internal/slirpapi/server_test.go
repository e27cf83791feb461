package slirpapi

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
)

// fakeVring notes what it is asked, and refuses port 9.
type fakeVring struct{ asked []api.ForwardChange }

func (v *fakeVring) Do(_ context.Context, method, path string, question, _ any) error {
	c := question.(api.ForwardChange)
	if method != "PATCH" || path != "/v1/forwards" || len(c.Add) > 0 && c.Add[0].HostPort == 9 {
		return errors.New("address already in use")
	}
	v.asked = append(v.asked, c)
	return nil
}

func TestRequestsAreAnsweredAsSlirp4netnsDoes(t *testing.T) {
	dir, err := os.MkdirTemp("", "slirp")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	v := new(fakeVring)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- New(v).Serve(ctx, l) }()
	const web = `"proto":"tcp","host_addr":"0.0.0.0","host_port":8080,"guest_addr":"10.0.2.100","guest_port":80`
	for _, c := range []struct{ ask, want string }{
		{`{"execute":"list_hostfwd"}`, `{"return":{"entries":[]}}`},
		{`{"execute":"add_hostfwd","arguments":{` + web + `}}`, `{"return":{"id":1}}`},
		{`{"execute":"add_hostfwd","arguments":{"proto":"udp","host_port":53,"guest_port":53}}`, `{"return":{"id":2}}`},
		{`{"execute":"list_hostfwd"}`, `{"return":{"entries":[{"id":1,` + web + `},{"id":2,"proto":"udp","host_addr":"0.0.0.0","host_port":53,"guest_addr":"","guest_port":53}]}}`},
		{`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":9,"guest_port":80}}`, `{"error":{"desc":"bad request: add_hostfwd: slirp_add_hostfwd failed: address already in use"}}`},
		{`{"execute":"add_hostfwd","arguments":{"proto":"sctp","host_port":8,"guest_port":80}}`, `{"error":{"desc":"bad request: add_hostfwd: bad arguments.proto"}}`},
		{`{"execute":"add_hostfwd","arguments":{"proto":"tcp","guest_port":80}}`, `{"error":{"desc":"bad request: add_hostfwd: bad arguments.host_port"}}`},
		{`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":8}}`, `{"error":{"desc":"bad request: add_hostfwd: bad arguments.guest_port"}}`},
		{`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":70000,"guest_port":1}}`, `{"error":{"desc":"bad request: add_hostfwd: bad arguments"}}`},
		{`{"execute":"remove_hostfwd","arguments":{"id":7}}`, `{"error":{"desc":"bad request: remove_hostfwd: bad arguments.id"}}`},
		{`{"execute":"remove_hostfwd"}`, `{"error":{"desc":"bad request: remove_hostfwd: bad arguments.id"}}`},
		{`{"execute":"remove_hostfwd","arguments":{"id":1}}`, `{"return":{}}`},
		{`{"execute":"remove_hostfwd","arguments":{"id":1}}`, `{"error":{"desc":"bad request: remove_hostfwd: bad arguments.id"}}`},
		{`{"execute":"stop"}`, `{"error":{"desc":"bad request: unknown execute"}}`},
		{`{}`, `{"error":{"desc":"bad request: no execute found"}}`},
		{`x`, `{"error":{"desc":"bad request: cannot parse JSON"}}`},
		{``, `{"error":{"desc":"bad request: cannot parse JSON"}}`},
		{`{"execute":"` + strings.Repeat("a", maxRequest) + `"}`, `{"error":{"desc":"bad request: cannot parse JSON"}}`},
	} {
		conn, err := net.Dial("unix", path)
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		_, err = io.WriteString(conn, c.ask)
		require.NoError(t, err)
		require.NoError(t, conn.(*net.UnixConn).CloseWrite())
		answer := make([]byte, 4096)
		n, _ := io.ReadFull(conn, answer) // what a server leaves unread resets the connection behind its answer
		require.JSONEq(t, c.want, string(answer[:n]), c.ask)
		require.NoError(t, conn.Close())
	}
	require.Len(t, v.asked, 3)
	require.Equal(t, v.asked[0].Add, v.asked[2].Remove, "the same forward goes")
	cancel()
	require.NoError(t, <-served)
}

func FuzzRequest(f *testing.F) {
	f.Add(`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":8080,"guest_port":80}}`)
	f.Add(`{"execute":"remove_hostfwd","arguments":{"id":1}}`)
	f.Fuzz(func(t *testing.T, text string) {
		here, there := net.Pipe()
		s := New(new(fakeVring))
		go func() {
			s.serve(context.Background(), there)
			_ = there.Close()
		}()
		go func() { _, _ = io.WriteString(here, text+"\n x") }()
		answer, _ := io.ReadAll(here)
		require.Contains(t, string(answer), "{")
	})
}
