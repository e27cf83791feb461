package qemuopt

import (
	"bufio"
	"io"
	"regexp"
)

// How much of a program is searched, and the longest text that is looked for in it.
const (
	mostSearched = 256 << 20 // QEMU 11.1 of Debian has 32 MB; one that is linked with all its libraries has more
	longestText  = 64
)

// anywhere is line, wherever it stands.
var anywhere = regexp.MustCompile(`QEMU emulator version (\d{1,4})\.(\d{1,4})\b`)

// FindVersion looks in the file of a program for what it prints for --version, which is in QEMU as it is. To run QEMU takes ten
// times as long. The unknown version means that the program must be asked: it is a script, or it begins QEMU.
func FindVersion(program io.Reader) Version {
	in := bufio.NewReaderSize(io.LimitReader(program, mostSearched), 128<<10)
	if magic, _ := in.Peek(4); string(magic) != "\x7fELF" {
		return Version{}
	}
	for {
		text, err := in.Peek(in.Size())
		if v := findIn(text, err != nil); v.Known() || err != nil {
			return v
		}
		_, _ = in.Discard(len(text) - longestText) // cannot fail: it is there
	}
}

// findIn looks for a version in a part of a program. One that the part's end may have cut off does not count, unless it is the
// last part.
func findIn(text []byte, last bool) Version {
	found := anywhere.FindIndex(text)
	if found == nil || found[1] == len(text) && !last {
		return Version{}
	}
	return ParseVersion(string(text[found[0]:found[1]]))
}
