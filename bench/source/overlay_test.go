package source

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnOldTreesGuestIsSeenUnderItsNewName(t *testing.T) {
	tree, dir := t.TempDir(), t.TempDir()
	old := filepath.Join(tree, "netbackend/nat/natguest")
	require.NoError(t, os.MkdirAll(old, 0o755))
	for name, text := range map[string]string{
		"doc.go":        "// Package natguest is a guest.\npackage natguest\n",
		"guest.go":      "package natguest\n\nvar name = `natguest`\n",
		"guest_test.go": "package natguest\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(old, name), []byte(text), 0o644))
	}
	o := overlay{}
	require.NoError(t, o.guest(tree, dir))
	seen := map[string]string{}
	for path, file := range o {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		seen[path] = string(text)
	}
	require.Equal(t, map[string]string{
		filepath.Join(tree, "netbackend/porttest/doc.go"):   "// Package natguest is a guest.\npackage porttest\n",
		filepath.Join(tree, "netbackend/porttest/guest.go"): "package porttest\n\nvar name = `natguest`\n",
	}, seen)
}

func TestATreeThatHasTheGuestInItsPlaceIsSeenAsItIs(t *testing.T) {
	o := overlay{}
	require.NoError(t, o.guest(t.TempDir(), t.TempDir()))
	require.Empty(t, o)
}
