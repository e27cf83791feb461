package undo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/tap"
)

// Bounds of a list that is passed on.
const (
	version    = 1
	maxSize    = 8 << 20
	maxFiles   = 1 << 14
	maxDevices = 1 << 12
)

// passed is a list as it is passed on.
type passed struct {
	Version int
	Files   []passedFile  `json:",omitempty"`
	Devices []tap.Changes `json:",omitempty"`
}

type passedFile struct {
	Path   string
	Device uint64 // number of the file system
	Number uint64 // in it
	Of     Owner  `json:",omitempty"`
}

// MarshalJSON writes the list for another process, which is its owner when it has read it.
func (l List) MarshalJSON() ([]byte, error) {
	p := passed{Version: version, Devices: l.devices}
	for _, f := range l.files {
		device, number := f.Numbers()
		p.Files = append(p.Files, passedFile{f.Path(), device, number, f.of})
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return json.Marshal(p)
}

// UnmarshalJSON reads a list that is passed on, and keeps its files open. A file that is not there any more, or in whose place there is
// another one, is left out. After an error the list is as it was.
func (l *List) UnmarshalJSON(text []byte) error {
	p, err := decode(text)
	if err != nil {
		return err
	}
	var read List
	for _, f := range p.Files {
		if err := read.takeOver(f); err != nil {
			read.Release()
			return err
		}
	}
	read.devices = p.Devices
	l.Release()
	*l = read
	return nil
}

// decode reads a list and checks all of it.
func decode(text []byte) (p passed, err error) {
	if len(text) > maxSize {
		return p, fmt.Errorf("the list has %d bytes, and %d are the most", len(text), maxSize)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields() // what is not known cannot be undone
	if err := d.Decode(&p); err != nil {
		return p, err
	}
	if d.More() {
		return p, errors.New("there is more than a list")
	}
	return p, p.check()
}

// check returns what is wrong.
func (p *passed) check() error {
	switch {
	case p.Version != version:
		return fmt.Errorf("a list of version %d, and this is for version %d", p.Version, version)
	case len(p.Files) > maxFiles || len(p.Devices) > maxDevices:
		return fmt.Errorf("%d files and %d devices are too many", len(p.Files), len(p.Devices))
	}
	paths, names := map[string]bool{}, map[string]bool{}
	for _, f := range p.Files {
		switch {
		case len(f.Path) >= unix.PathMax || strings.ContainsRune(f.Path, 0) || f.Path == "" || filepath.Clean(f.Path) != f.Path || f.Of > OfGuest:
			return fmt.Errorf("%q is not the path of a file that was made", f.Path)
		case paths[f.Path]:
			return fmt.Errorf("%q is there twice", f.Path)
		}
		paths[f.Path] = true
	}
	for i := range p.Devices {
		c := &p.Devices[i]
		if err := c.Check(); err != nil {
			return err
		}
		if names[c.TAP] {
			return fmt.Errorf("%q is there twice", c.TAP)
		}
		names[c.TAP] = true
	}
	return nil
}

// takeOver adds a file, if it is still the one that was made.
func (l *List) takeOver(f passedFile) error {
	err := l.AddFile(socketfile.Numbered(f.Path, f.Device, f.Number), f.Of)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	held := &l.files[len(l.files)-1]
	var st unix.Stat_t
	if err := unix.Fstat(held.held, &st); err != nil || st.Dev != f.Device || st.Ino != f.Number {
		l.dropFile(f.Path)
	}
	return nil
}
