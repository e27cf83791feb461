package lab

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
)

func TestLoopbackMeasuresAStream(t *testing.T) {
	path, err := Loopback{}.Start(t.Context(), 1500)
	require.NoError(t, err)
	defer path.Close()
	for _, dir := range []Direction{Out, In} {
		sample, err := path.Transfer(t.Context(), dir, 20*time.Millisecond)
		require.NoError(t, err)
		require.Positive(t, sample.Bytes)
		require.GreaterOrEqual(t, sample.Elapsed, 20*time.Millisecond)
		require.Equal(t, measure.Times{}, sample.CPU.BackEnd)
	}
}

func TestAStreamEndsWithTheContext(t *testing.T) {
	path, err := Loopback{}.Start(t.Context(), 1500)
	require.NoError(t, err)
	defer path.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = path.Transfer(ctx, Out, time.Hour)
	require.Error(t, err)
	require.Less(t, time.Since(start), patience)
}

func TestBothEndsMustHaveCountedTheSame(t *testing.T) {
	require.NoError(t, sameBytes(7, 7, nil))
	require.EqualError(t, sameBytes(7, 6, nil), "the host has counted 7 bytes, the other end 6")
	require.EqualError(t, sameBytes(7, 7, errors.New("gone")), "gone")
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

// script puts a shell script on the PATH, in front of everything else.
func script(t *testing.T, name, text string) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestPasstWithoutVhostUserIsNotInstalled(t *testing.T) {
	script(t, "passt", `case $1 in --version) echo passt 2023;; *) echo usage; exit 1;; esac`)
	_, err := Passt{}.Start(t.Context(), Job{})
	require.EqualError(t, err, "the installed version cannot do this: passt 2023 has no --vhost-user")
	require.True(t, NotInstalled(err))
}

func TestABackEndThatEndsAtOnceSaysWhy(t *testing.T) {
	script(t, "passt", `case $1 in --help) echo --vhost-user;; *) echo first; echo no luck; exit 1;; esac`)
	_, err := Passt{}.Start(t.Context(), Job{Socket: filepath.Join(t.TempDir(), "none")})
	require.ErrorContains(t, err, "passt has ended: no luck")
}
