package main

import (
	"runtime/debug"
)

// version is set by `go build -ldflags "-X main.version=1.2.3"`. Without it the build's own record counts.
var version string

// develVersion is the version of a build that nobody recorded one for, such as of an unpacked archive.
const develVersion = "devel"

// programVersion returns the version of this program: the linker's, or that of the module as Go has recorded it.
func programVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return develVersion
	}
	return info.Main.Version
}
