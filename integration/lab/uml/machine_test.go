package uml

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/userland"
)

// The harness itself is tested without a network, so that a failure elsewhere is not the harness's.
func TestAGuestBootsAndTransfersOverItsLoopback(t *testing.T) {
	for _, u := range []userland.Userland{userland.Bookworm, userland.Forky} {
		t.Run(u.String(), func(t *testing.T) { testLoopback(t, u) })
	}
}

func testLoopback(t *testing.T, u userland.Userland) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	m, err := Start(ctx, Options{Userland: u, Dir: t.TempDir(), Initrd: testImage(ctx, t, u)})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Kill()) }()

	hello, err := m.Console.WaitBoot(ctx)
	require.NoError(t, err, "%s", m.Output())
	require.True(t, hello.UML)

	const length = 8 << 20
	require.NoError(t, m.Console.Do(ctx, nil, "up", "lo"))
	listen := m.Console.Start("tcp-listen", 80, length, 1)
	require.NoError(t, listen.Event(ctx, nil))
	var got, back proto.Transfer
	require.NoError(t, m.Console.Do(ctx, &got, "tcp-dial", "127.0.0.1:80", length, 2))
	require.NoError(t, listen.Event(ctx, &back))
	require.NoError(t, listen.Wait(ctx, nil))
	require.Equal(t, proto.PatternSum(1, length), got.SHA256)
	require.Equal(t, proto.PatternSum(2, length), back.SHA256)
}

func testImage(ctx context.Context, t *testing.T, u userland.Userland) string {
	dir := t.TempDir()
	init, err := guest.BuildInit(ctx, dir)
	require.NoError(t, err)
	modules, err := guest.UMLModules(u)
	require.NoError(t, err)
	file := filepath.Join(dir, "initrd")
	require.NoError(t, guest.Image{Init: init, Modules: modules}.Write(file))
	return file
}
