package replacefile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/vringnet/vring/internal/regularfile"
)

// BackupSuffix is what the file with the old content has behind its name.
const BackupSuffix = "~"

// ErrChanged is that a file has not the content that it should have had.
var ErrChanged = errors.New("the file has changed meanwhile")

// Replace gives a regular file that has the content before another one. The old one is kept beside it, with BackupSuffix. Both have the mode of
// the file, and its owner as far as this process may give files away. Through a symbolic link, the file is replaced that it leads to. Replace
// returns when the disk has the new content.
//
// Each is written beside its place and renamed, so at any moment the file has one content or the other. After an error the
// file is unchanged, though the backup may be there; only the last step, which waits for the disk, can fail when the new content is in place.
// Replace checks right before the rename that the file has not changed. A write between this check and the rename is lost.
func Replace(path string, before, after []byte) error {
	r, err := begin(path, before, after)
	if err != nil {
		return err
	}
	defer r.clean()
	for _, step := range r.steps() {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// replacement is a file that is being replaced.
type replacement struct {
	path          string // behind all links
	before, after []byte
	like          fs.FileInfo // the file
	temporary     *os.File    // is written at present; nil for none
}

func begin(path string, before, after []byte) (*replacement, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return &replacement{path: path, before: before, after: after, like: info}, nil
}

// steps are what is done, in order. It can stop behind each.
func (r *replacement) steps() []func() error {
	return []func() error{
		r.check,
		r.create, func() error { return r.write(r.before) }, r.complete, func() error { return r.rename(r.path + BackupSuffix) },
		r.create, func() error { return r.write(r.after) }, r.complete, r.check, func() error { return r.rename(r.path) },
		r.syncDirectory,
	}
}

// check returns ErrChanged if the file has not the content of before.
func (r *replacement) check() error {
	text, err := regularfile.Read(r.path, int64(len(r.before))+1)
	if err != nil {
		return err
	}
	if !bytes.Equal(text, r.before) {
		return fmt.Errorf("%s: %w", r.path, ErrChanged)
	}
	return nil
}

// create makes a file beside the one that is replaced, which only its owner can read.
func (r *replacement) create() (err error) {
	r.temporary, err = os.CreateTemp(filepath.Dir(r.path), "."+filepath.Base(r.path)+".*.new")
	return err
}

func (r *replacement) write(text []byte) error {
	_, err := r.temporary.Write(text)
	return err
}

// complete gives what is written its mode and owner, and waits until the disk has it.
func (r *replacement) complete() error {
	if owner, ok := r.like.Sys().(*syscall.Stat_t); ok {
		_ = r.temporary.Chown(int(owner.Uid), int(owner.Gid)) // only root may
	}
	return errors.Join(r.temporary.Chmod(r.like.Mode().Perm()), r.temporary.Sync())
}

// rename puts what is written in its place.
func (r *replacement) rename(to string) error {
	written := r.temporary
	if err := os.Rename(written.Name(), to); err != nil {
		return err
	}
	r.temporary = nil
	return written.Close()
}

// syncDirectory waits until the disk has the new names.
func (r *replacement) syncDirectory() error {
	dir, err := os.Open(filepath.Dir(r.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// clean removes what was not renamed.
func (r *replacement) clean() {
	if r.temporary != nil {
		_, _ = r.temporary.Close(), os.Remove(r.temporary.Name())
	}
}
