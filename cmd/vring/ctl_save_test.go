package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/netbackend/porttest"
)

func TestWhatRunsIsSavedInTheFile(t *testing.T) {
	const file = "# a comment\nguests: [{socket-path: DIR/s}]\nnat:\n  dns: [192.0.2.53]\n"
	r := startReloaded(t, file)
	defer r.stop()
	c := &controlled{t: t, control: filepath.Join(r.dir, "s.ctl")}
	before, err := os.ReadFile(r.path)
	require.NoError(t, err)
	require.Equal(t, "nothing to save: it is as "+r.path+" says\n", c.requireCtl("config", "save"))
	port := porttest.FreePort(t).Port()
	text := fmt.Sprintf("tcp:127.0.0.1:%d:80", port)
	c.requireCtl("forward", "add", text)
	require.Equal(t, "+ forwards: "+text+"\nsaved in "+r.path+"; the file of before is "+r.path+"~\n", c.requireCtl("config", "save"))
	requireLine(t, r.lines, "what runs was saved in the configuration file")
	after, err := os.ReadFile(r.path)
	require.NoError(t, err)
	require.Contains(t, string(after), text)
	kept, err := os.ReadFile(r.path + "~")
	require.NoError(t, err)
	require.Equal(t, string(before), string(kept), "comments and all")
	require.Equal(t, "it is as "+r.path+" says\n", c.requireCtl("config", "diff"))

	c.requireCtl("policy", "replace", "--restrict")
	require.Contains(t, c.requireCtl("config", "save", "-o", "json"), `"key": "restrict"`, "again, without a reload")
	require.Contains(t, c.requireCtl("reload"), "nothing has changed")
	requireListens(t, port, true)

	client := control.NewClient(c.control)
	defer client.Close()
	err = client.Do(t.Context(), http.MethodPost, "/v1/config/saved", api.ConfigSaved{SHA256: control.Sum(kept)}, nil)
	require.ErrorContains(t, err, "is not what was saved")
}

func TestAFileThatSomebodyHasChangedIsNotSaved(t *testing.T) {
	const file = "guests: [{socket-path: DIR/s}]\nnat:\n  dns: [192.0.2.53]\n"
	r := startReloaded(t, file)
	defer r.stop()
	c := &controlled{t: t, control: filepath.Join(r.dir, "s.ctl")}
	c.requireCtl("log-level", "debug")
	r.write(file + "poll-us: 7\n")
	changed, err := os.ReadFile(r.path)
	require.NoError(t, err)
	status, _, stderr := c.ctl("config", "save")
	require.Equal(t, exitUsage, status)
	require.Contains(t, stderr, "was changed since vring has read it; vring ctl reload adopts it")
	now, err := os.ReadFile(r.path)
	require.NoError(t, err)
	require.Equal(t, string(changed), string(now))

	require.NoError(t, os.Remove(r.path))
	status, _, _ = c.ctl("config", "save")
	require.NotEqual(t, exitOK, status, "it has gone")
	require.NoFileExists(t, r.path)
}

func TestOnlyWhatFollowsAFileIsSaved(t *testing.T) {
	c := startControlled(t, "--sandbox", "off")
	status, _, stderr := c.ctl("config", "save")
	require.Equal(t, exitUsage, status)
	require.Contains(t, stderr, "was started with flags, and follows no file")
}

// A vring that is taken over can answer what it likes. What it cannot have come to does not get into the file.
func TestWhatCannotHaveChangedIsNotSaved(t *testing.T) {
	const old = "guests: [{socket-path: /tmp/s}]\nnat:\n  dns: [192.0.2.53]\n"
	require.NoError(t, checkSaved("f", []byte(old), []byte(old+"  restrict: true\n")))
	for text, want := range map[string]string{
		old + "sandbox: off\n":             "sandbox cannot change while guests are served",
		old + "control: /home/user/file\n": "control cannot change while guests are served",
		old + "  mtu: 1400\n":              "mtu cannot change while guests are served",
		"garbage":                          "what runs:1",
	} {
		require.ErrorContains(t, checkSaved("f", []byte(old), []byte(text)), want)
	}
}
