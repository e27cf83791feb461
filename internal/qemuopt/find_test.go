package qemuopt

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

const elf = "\x7fELF"

func TestTheVersionIsFoundInTheFileOfTheProgram(t *testing.T) {
	code := strings.Repeat("\x00QEMU\x00", 1<<20/6)
	for name, c := range map[string]struct{ program, version string }{
		"QEMU":               {elf + code + "\x00QEMU emulator version 7.2.22 (Debian)\x00" + code, "7.2"},
		"at the end":         {elf + code + "QEMU emulator version 9.2", "9.2"},
		"a format before":    {elf + "QEMU emulator version %s\x00" + code + "QEMU emulator version 11.1.2\x00", "11.1"},
		"one that begins it": {elf + code, "unknown"},
		"a script":           {"#!/bin/sh\necho 'QEMU emulator version 7.2.22'\n", "unknown"},
		"empty":              {"", "unknown"},
		"garbage":            {elf + "QEMU emulator version 99999999999999999999.2\x00", "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.version, FindVersion(strings.NewReader(c.program)).String())
		})
	}
}

// The file is read in parts. Wherever one ends, the version is found, and no digit of it is lost.
func TestTheVersionIsFoundWhereverItStands(t *testing.T) {
	const part = 128 << 10
	program := append([]byte(elf), make([]byte, 2*part)...)
	for at := part - 80; at < part+80; at++ {
		copy(program[at:], "QEMU emulator version 10.12\x00")
		require.Equal(t, Version{10, 12}, FindVersion(bytes.NewReader(program)), at)
		clear(program[at:][:40])
	}
}

func TestAFileThatCannotBeReadHasNoVersion(t *testing.T) {
	begin := strings.NewReader(elf + strings.Repeat(".", 1000))
	require.Zero(t, FindVersion(io.MultiReader(begin, iotest.ErrReader(errors.New("input/output error")))))
}

// endless is a file that begins like a program and never ends.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	clear(p)
	if e.read == 0 {
		copy(p, elf)
	}
	e.read += len(p)
	return len(p), nil
}

func TestAnEndlessFileIsNotReadToItsEnd(t *testing.T) {
	file := new(endless)
	require.Zero(t, FindVersion(file))
	require.LessOrEqual(t, file.read, mostSearched+128<<10)
}
