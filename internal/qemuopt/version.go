package qemuopt

import (
	"fmt"
	"regexp"
	"strconv"
)

// Version is a version of QEMU. The zero Version is an unknown one.
type Version struct{ Major, Minor int }

// line is how `qemu-system-x86_64 --version` begins.
var line = regexp.MustCompile(`^QEMU emulator version (\d{1,4})\.(\d{1,4})\b`)

// ParseVersion reads what QEMU prints for --version. Anything else is the unknown version.
func ParseVersion(text string) Version {
	m := line.FindStringSubmatch(text)
	if m == nil {
		return Version{}
	}
	major, _ := strconv.Atoi(m[1]) // a few digits always fit
	minor, _ := strconv.Atoi(m[2])
	return Version{major, minor}
}

// Known reports whether v is not the unknown version.
func (v Version) Known() bool { return v != Version{} }

// String returns MAJOR.MINOR.
func (v Version) String() string {
	if !v.Known() {
		return "unknown"
	}
	return fmt.Sprintf("%d.%d", v.Major, v.Minor)
}

// before reports whether v is known and older than major.minor.
func (v Version) before(major, minor int) bool {
	return v.Known() && (v.Major < major || v.Major == major && v.Minor < minor)
}

// What makes QEMU connect again, each second, when its connection to the back end has ended.
const (
	ReconnectSeconds = "reconnect=1"       // up to QEMU 9.1
	ReconnectMillis  = "reconnect-ms=1000" // from QEMU 9.2 on
)

// Reconnect returns the option that makes a socket connect again each second.
func (v Version) Reconnect() string {
	if v.before(9, 2) {
		return ReconnectSeconds
	}
	return ReconnectMillis
}

// NoVectors takes MSI-X away from a PCI device.
const NoVectors = "vectors=0"

// NeedsNoVectors reports whether a vhost-user device needs NoVectors without KVM.
func (v Version) NeedsNoVectors() bool { return !v.Known() || v.before(11, 0) }
