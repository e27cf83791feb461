package doctor

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// socket looks whether a socket can be made where it is to be, and who can get at it.
func (h *Host) socket() Finding {
	f := Finding{What: "socket", Found: h.Socket + " can be made"}
	if err := h.CheckSocket(h.Socket); err != nil {
		f.Level, f.Found = Problem, err.Error()
		f.Advice = "Choose another path, and try it: vring doctor --socket-path PATH."
		return f
	}
	dir, err := h.closedDirectory()
	switch {
	case err != nil:
		f.Level, f.Found = Note, err.Error()
	case dir != "":
		f.Level, f.Found = Note, fmt.Sprintf("%s can be made; %s keeps other users out", h.Socket, dir)
		f.Advice = "QEMU of another user, such as that of libvirt's system mode, cannot connect. Use a directory that all may enter, and --socket-group."
	}
	return f
}

// closedDirectory returns the first directory above the socket that not everybody may enter, "" if there is none. A relative path
// is looked at from the present directory.
func (h *Host) closedDirectory() (string, error) {
	path, err := filepath.Abs(h.Socket)
	if err != nil {
		return "", err
	}
	const enter = 0o001
	for i, c := range path {
		if c != filepath.Separator || i == 0 {
			continue
		}
		mode, err := h.Mode(path[:i])
		if err != nil {
			return "", err
		}
		if mode&enter == 0 {
			return path[:i], nil
		}
	}
	return "", nil
}

// apparmor looks whether the QEMU that libvirt starts is confined. ok reports whether there is something to say.
func (h *Host) apparmor() (f Finding, ok bool) {
	const (
		enabled = "/sys/module/apparmor/parameters/enabled" // Y or N
		profile = "/etc/apparmor.d/abstractions/libvirt-qemu"
		local   = "/etc/apparmor.d/local/abstractions/libvirt-qemu"
	)
	on, err := h.ReadFile(enabled)
	if err != nil || !strings.HasPrefix(string(on), "Y") {
		return f, false
	}
	if _, err := h.Mode(profile); err != nil {
		return f, false
	}
	f = Finding{Level: OK, What: "AppArmor", Found: "confines the QEMU that libvirt starts"}
	f.Advice = fmt.Sprintf("libvirt allows the socket that a domain's <source> names. For one in <qemu:commandline>, add to %s: %q rw,", local, h.Socket)
	return f, true
}

// modeOf returns the mode of a file, following links.
func modeOf(stat func(string) (fs.FileInfo, error)) func(string) (fs.FileMode, error) {
	return func(path string) (fs.FileMode, error) {
		info, err := stat(path)
		if err != nil {
			return 0, err
		}
		return info.Mode(), nil
	}
}
