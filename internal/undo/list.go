package undo

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/tap"
)

// Owner is what a file was made for.
type Owner uint8

// Owners. What was made for the whole process is undone in the end only.
const (
	OfProcess Owner = iota
	OfForward
	OfGuest
)

func (o Owner) String() string {
	return [...]string{OfProcess: "this process", OfForward: "a forward", OfGuest: "a guest"}[o]
}

// List is what is to be undone, in the order in which it was done. The zero value is an empty one.
type List struct {
	files   []file
	devices []tap.Changes
	given   bool // somebody else undoes it
}

// file is a file that was made.
type file struct {
	socketfile.File
	of   Owner
	held int // descriptor that keeps its number from others
}

// AddFile adds a file that was just made, and keeps it open.
func (l *List) AddFile(made socketfile.File, of Owner) error {
	held, err := unix.Open(made.Path(), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	l.dropFile(made.Path()) // another file had its place
	l.files = append(l.files, file{made, of, held})
	return nil
}

// AddMade is AddFile for what lies at a path.
func (l *List) AddMade(path string, of Owner) error {
	made, err := socketfile.Made(path)
	if err != nil {
		return err
	}
	return l.AddFile(made, of)
}

// dropFile takes a file from the list, and reports whether it was there.
func (l *List) dropFile(path string) (was file, ok bool) {
	i := l.fileAt(path)
	if i < 0 {
		return file{}, false
	}
	was = l.files[i]
	_ = unix.Close(was.held)
	l.files = slices.Delete(l.files, i, i+1)
	return was, true
}

func (l *List) fileAt(path string) int {
	return slices.IndexFunc(l.files, func(f file) bool { return f.Path() == path })
}

// Has reports whether a file is on the list.
func (l *List) Has(path string) bool { return l.fileAt(path) >= 0 }

// Files are the paths of all files.
func (l *List) Files() (paths []string) {
	for _, f := range l.files {
		paths = append(paths, f.Path())
	}
	return paths
}

// Remove removes a file that was made for somebody, unless another one has taken its place, and takes it from the list.
func (l *List) Remove(path string, of Owner) error {
	i := l.fileAt(path)
	if i < 0 || l.files[i].of != of {
		return fmt.Errorf("%q is not the socket of %v", path, of)
	}
	return l.removeAt(i)
}

func (l *List) removeAt(i int) error {
	err := l.files[i].File.Remove() // while it is held
	l.dropFile(l.files[i].Path())
	return err
}

// SetDevice adds what was changed for a TAP device, in the place of what was changed for another device of its name.
func (l *List) SetDevice(c tap.Changes) {
	if i := l.deviceAt(c.TAP); i >= 0 {
		l.devices[i] = c
		return
	}
	l.devices = append(l.devices, c)
}

func (l *List) deviceAt(name string) int {
	return slices.IndexFunc(l.devices, func(c tap.Changes) bool { return c.TAP == name })
}

// UndoDevice undoes what was changed for a TAP device, which is closed, and takes it from the list. If there is nothing, it does nothing.
func (l *List) UndoDevice(name string) error {
	i := l.deviceAt(name)
	if i < 0 {
		return nil
	}
	c := l.devices[i]
	l.devices = slices.Delete(l.devices, i, i+1)
	return c.Undo()
}

// Devices are the names of all TAP devices.
func (l *List) Devices() (names []string) {
	for _, c := range l.devices {
		names = append(names, c.TAP)
	}
	return names
}

// Len is how much there is to undo.
func (l *List) Len() int { return len(l.files) + len(l.devices) }

// Undo undoes all of it, the newest first: the files, then the devices. The list is empty then, whatever could not be undone.
func (l *List) Undo() error {
	if l.given {
		return nil
	}
	var errs []error
	for len(l.files) > 0 {
		errs = append(errs, l.removeAt(len(l.files)-1))
	}
	for i := len(l.devices) - 1; i >= 0; i-- {
		errs = append(errs, l.UndoDevice(l.devices[i].TAP))
	}
	return errors.Join(errs...)
}

// Release gives the list up without undoing anything: somebody else does that. What is on it can be asked for, and nothing else.
func (l *List) Release() {
	if l.given {
		return
	}
	l.given = true
	for _, f := range l.files {
		_ = unix.Close(f.held)
	}
}
