package testbed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/traffic"
)

// loopback starts the loopback.
func loopback(t *testing.T) Path {
	program, err := BuildGuest(t.Context(), t.TempDir())
	require.NoError(t, err)
	bare := Bare{Program: func() (string, error) { return program, nil }}
	path, err := Subject{FrontEnd: bare, BackEnd: Loopback{}}.Start(t.Context(), 1500)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, path.Close()) })
	return path
}

func TestTheLoopbackCarriesEverything(t *testing.T) {
	path := loopback(t)
	for _, test := range traffic.Tests() {
		for _, dir := range []Direction{Out, In} {
			plan := traffic.Plan{Test: test, Length: 20 * time.Millisecond, Bytes: 1 << 20}
			sample, err := path.Run(t.Context(), plan, dir)
			require.NoError(t, err, "%s, %s", test.Name, dir)
			require.Positive(t, sample.Count)
			require.GreaterOrEqual(t, sample.Sent, sample.Count)
			require.Positive(t, sample.Elapsed)
			require.Positive(t, sample.CPU.Guest.Running)
			require.Positive(t, sample.CPU.Host)
			require.Equal(t, measure.Times{}, sample.CPU.BackEnd)
		}
	}
}

func TestARunEndsWithTheContext(t *testing.T) {
	test, err := traffic.Find("stream")
	require.NoError(t, err)
	for _, dir := range []Direction{Out, In} {
		path := loopback(t)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		start := time.Now()
		_, err = path.Run(ctx, traffic.Plan{Test: test, Length: time.Hour}, dir)
		cancel()
		require.Error(t, err)
		require.Less(t, time.Since(start), patience)
	}
}

func TestWhatASampleCounts(t *testing.T) {
	client, server := traffic.Counts{Sent: 10, Received: 8}, traffic.Counts{Sent: 7, Received: 9}
	for _, test := range []struct {
		kind        traffic.Kind
		count, sent int64
	}{
		{traffic.Bytes, 17, 17},
		{traffic.Datagrams, 9, 10},
		{traffic.Exchanges, 8, 10},
		{traffic.Connects, 8, 10},
	} {
		sample := newSample(test.kind, client, server, &meter{elapsed: time.Second})
		require.Equal(t, measure.Sample{Count: test.count, Sent: test.sent, Elapsed: time.Second}, sample, test.kind)
	}
}

func TestDatagramsThatHaveWaitedCountForTheTimeTheyTook(t *testing.T) {
	sample := newSample(traffic.Datagrams, traffic.Counts{Sent: 10}, traffic.Counts{Received: 9, Took: 2 * time.Second},
		&meter{elapsed: time.Second})
	require.Equal(t, 2*time.Second, sample.Elapsed)
}

func TestNotInstalled(t *testing.T) {
	require.True(t, NotInstalled(fmt.Errorf("start: %w", fs.ErrNotExist)))
	require.True(t, NotInstalled(&exec.Error{Name: "passt", Err: exec.ErrNotFound}))
	require.True(t, NotInstalled(fmt.Errorf("%w: old", ErrUnsuitable)))
	require.False(t, NotInstalled(errors.New("no boot")))
}

func TestAMissingBuildOfVringIsNotInstalled(t *testing.T) {
	_, err := Vring{Label: "old", Path: filepath.Join(t.TempDir(), "vring")}.Start(t.Context(), Job{})
	require.True(t, NotInstalled(err), "%v", err)
}

func TestUMLTakesVhostUserOnly(t *testing.T) {
	require.True(t, Subject{UML{}, Vring{}}.Possible())
	require.True(t, Subject{UML{}, Passt{}}.Possible())
	require.False(t, Subject{UML{}, PasstStream{}}.Possible())
	require.False(t, Subject{UML{}, QEMUUser{}}.Possible())
	require.True(t, Subject{TCG{}, QEMUUser{}}.Possible())
	require.True(t, Subject{Bare{}, Loopback{}}.Possible())
}

func TestQEMUsOwnNetworkForwardsBothProtocols(t *testing.T) {
	a, err := QEMUUser{}.Start(t.Context(), Job{ForwardPort: 7000})
	require.NoError(t, err)
	require.Equal(t, "user,hostfwd=tcp:127.0.0.1:7000-10.0.2.15:5001,hostfwd=udp:127.0.0.1:7000-10.0.2.15:5001", a.Netdev)
}

// script puts a shell script on the PATH, in front of everything else.
func script(t *testing.T, name, text string) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestPasstWithoutVhostUserIsNotInstalled(t *testing.T) {
	script(t, "passt", `case $1 in --version) echo no syslog; echo passt 2023;; *) echo usage; exit 1;; esac`)
	_, err := Passt{}.Start(t.Context(), Job{})
	require.ErrorContains(t, err, "the installed version cannot do this: passt 2023")
	require.ErrorContains(t, err, "has no --vhost-user")
	require.True(t, NotInstalled(err))
}

func TestPasstIsToldWhatItsVersionKnows(t *testing.T) {
	for _, test := range []struct {
		name, help string
		backEnd    BackEnd
		want       []string
		wantNot    string
	}{
		{"2023, stream", "", PasstStream{}, []string{"--gateway 10.0.2.2", "127.0.0.1/7000:5001"}, "--map-host-loopback"},
		{"2026, vhost-user", "--vhost-user --map-host-loopback", Passt{}, []string{"--vhost-user", "--map-host-loopback 10.0.2.2"}, "none"},
		{"2026, stream", "--vhost-user --map-host-loopback", PasstStream{}, []string{"--map-host-loopback 10.0.2.2"}, "--vhost-user"},
	} {
		t.Run(test.name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "socket")
			arguments := filepath.Join(t.TempDir(), "arguments")
			script(t, "passt", fmt.Sprintf(`case $1 in --help) echo " %s";; *) echo "$@" >%s; touch %s; exec sleep 100;; esac`,
				test.help, arguments, socket))
			a, err := test.backEnd.Start(t.Context(), Job{Socket: socket, MTU: 1500, ForwardPort: 7000})
			require.NoError(t, err)
			require.NoError(t, a.Process.Kill())
			got, err := os.ReadFile(arguments)
			require.NoError(t, err)
			for _, want := range test.want {
				require.Contains(t, string(got), want)
			}
			require.NotContains(t, string(got), test.wantNot)
		})
	}
}

func TestABackEndThatEndsAtOnceSaysWhy(t *testing.T) {
	script(t, "passt", `case $1 in --help) echo --vhost-user;; *) echo first; echo no luck; exit 1;; esac`)
	_, err := Passt{}.Start(t.Context(), Job{Socket: filepath.Join(t.TempDir(), "none")})
	require.ErrorContains(t, err, "passt has ended: no luck")
}
