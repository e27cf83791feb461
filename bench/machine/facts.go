package machine

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Facts are what figures depend on besides the programs. What cannot be found out is empty.
type Facts struct {
	Kernel    string `json:"kernel"`    // release of the host's kernel
	Processor string `json:"processor"` // model
	Cores     int    `json:"cores"`     // that this process may use
	GoVersion string `json:"go_version"`
	Commit    string `json:"commit"` // of the source tree, with "+" behind it if files were changed since
	// Load is the load average of the last minute before the run, see proc_loadavg(5): more than the benchmark's own
	// means that somebody else was at work.
	Load string `json:"load"`
}

// Describe finds the facts out. source is a directory in the source tree.
func Describe(ctx context.Context, source string) Facts {
	cpuinfo, _ := os.ReadFile("/proc/cpuinfo")
	loadavg, _ := os.ReadFile("/proc/loadavg")
	load, _, _ := strings.Cut(string(loadavg), " ")
	return Facts{
		Kernel:    kernelRelease(),
		Processor: processorModel(string(cpuinfo)),
		Cores:     runtime.NumCPU(),
		GoVersion: runtime.Version(),
		Commit:    commit(ctx, source),
		Load:      load,
	}
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// processorModel finds the model of the first processor in the text of /proc/cpuinfo.
func processorModel(cpuinfo string) string {
	for line := range strings.Lines(cpuinfo) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func commit(ctx context.Context, source string) string {
	revision, err := git(ctx, source, "rev-parse", "--short=12", "HEAD")
	if err != nil {
		return ""
	}
	changed, err := git(ctx, source, "status", "--porcelain", "--untracked-files=no")
	if err != nil || len(changed) > 0 {
		return revision + "+"
	}
	return revision
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	return string(bytes.TrimSpace(out)), err
}
