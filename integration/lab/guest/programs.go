package guest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"
)

// addPrograms copies programs of the host into the archive's bin, and their libraries to where they are on the host. have is what the
// archive has: directories and files.
func addPrograms(w *cpio.Writer, programs []string, have map[string]bool) error {
	for _, program := range programs {
		libraries, err := librariesOf(program)
		if err != nil {
			return err
		}
		for _, library := range libraries {
			if err := addAt(w, library, library, 0o755, have); err != nil {
				return err
			}
		}
		if err := addFile(w, filepath.Join("bin", filepath.Base(program)), program, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// addAt copies a file of the host to an absolute path in the archive, with the directories above it, unless it is there.
func addAt(w *cpio.Writer, path, file string, perm cpio.FileMode, have map[string]bool) error {
	if have[path] {
		return nil
	}
	have[path] = true
	for _, dir := range directoriesAbove(path) {
		if have[dir] {
			continue
		}
		have[dir] = true
		if err := w.WriteHeader(&cpio.Header{Name: strings.TrimPrefix(dir, "/"), Mode: cpio.TypeDir | 0o755}); err != nil {
			return err
		}
	}
	return addFile(w, strings.TrimPrefix(path, "/"), file, perm)
}

// directoriesAbove returns the directories of an absolute path, from the root down, without the root.
func directoriesAbove(file string) []string {
	var dirs []string
	for dir := filepath.Dir(file); dir != "/"; dir = filepath.Dir(dir) {
		dirs = append(dirs, dir)
	}
	slices.Reverse(dirs)
	return dirs
}

// loaded finds the files in what ldd prints: "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f...)", or just a path
// for the program that loads the others.
var loaded = regexp.MustCompile(`(?m)(?:=> |^\s+)(/\S+) \(0x`)

// librariesOf returns the files that the loader needs to start a program.
func librariesOf(program string) ([]string, error) {
	out, err := exec.Command("ldd", program).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w: %s", program, err, out)
	}
	var files []string
	for _, match := range loaded.FindAllStringSubmatch(string(out), -1) {
		files = append(files, match[1])
	}
	return files, nil
}
