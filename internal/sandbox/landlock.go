package sandbox

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	"github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// restrictFiles lets Landlock deny what cfg does not name.
func restrictFiles(cfg *Config) (Wall, error) {
	w := Wall{Name: "Landlock"}
	abi, err := syscall.LandlockGetABIVersion()
	if err == nil {
		err = landlockConfig(cfg).BestEffort().Restrict(fileRules(cfg)...)
	}
	if reason, lacking := whyMissing(err); lacking {
		return w.missing(reason), nil
	}
	w.Keeps, w.Lacks = landlockParts(abi)
	return w, err
}

// landlockParts tells what a version of Landlock's ABI keeps from a process, and what later ones do.
func landlockParts(abi int) (keeps, lacks string) {
	var has, lacking []string
	for _, part := range []struct {
		abi    int
		what   string
		kernel string
	}{
		{1, "files", "5.13"}, {3, "truncation", "6.2"}, {4, "TCP ports", "6.7"}, {5, "requests to devices", "6.10"},
		{6, "abstract sockets and signals", "6.12"},
	} {
		if abi >= part.abi {
			has = append(has, part.what)
		} else {
			lacking = append(lacking, fmt.Sprintf("%s (Linux %s)", part.what, part.kernel))
		}
	}
	return fmt.Sprintf("%s (ABI %d)", strings.Join(has, ", "), abi), strings.Join(lacking, ", ")
}

// landlockConfig says what needs a rule to be allowed.
func landlockConfig(cfg *Config) landlock.Config {
	c := landlock.V7
	if cfg.Internet {
		// A guest may connect to any port, and Landlock has no rule for all of them. Ports to listen on are open.
		c.HandledAccessNet = syscall.AccessNetBindTCP
	}
	if cfg.Bind {
		c.HandledAccessNet &^= syscall.AccessNetBindTCP // any port, for which Landlock has no rule either
	}
	if cfg.Children {
		c.Scoped &^= syscall.ScopeSignal // the kernel counts the signal that ends children with their parent as the parent's
	}
	if slices.ContainsFunc(cfg.Dial, isAbstract) {
		c.Scoped &^= syscall.ScopeAbstractUnixSocket
	}
	return c
}

func isAbstract(socket string) bool { return strings.HasPrefix(socket, "@") }

// fileRules allow what cfg names. A process that reads one file may read all: nobody knows where links will lead to.
func fileRules(cfg *Config) (rules []landlock.Rule) {
	if cfg.Read {
		rules = append(rules, landlock.PathAccess(syscall.AccessFSReadFile, "/"))
	}
	if cfg.Sources {
		rules = append(rules, landlock.BindTCP(0)) // which is a port of the kernel's choice
	}
	for _, path := range cfg.Remove {
		// A directory is opened to be locked.
		const access = syscall.AccessFSRemoveFile | syscall.AccessFSReadDir
		rules = append(rules, landlock.PathAccess(access, filepath.Dir(path)).IgnoreIfMissing())
	}
	for _, dir := range cfg.MakeIn {
		const access = syscall.AccessFSMakeSock | syscall.AccessFSRemoveFile | syscall.AccessFSReadDir
		rules = append(rules, landlock.PathAccess(access, dir).IgnoreIfMissing())
	}
	for _, k := range cfg.Keep {
		const access = syscall.AccessFSMakeReg | syscall.AccessFSWriteFile | syscall.AccessFSRemoveFile
		rules = append(rules, landlock.PathAccess(access, filepath.Dir(k.Path)))
	}
	for _, k := range cfg.Logs {
		const access = syscall.AccessFSMakeReg | syscall.AccessFSReadFile | syscall.AccessFSWriteFile | syscall.AccessFSRemoveFile
		rules = append(rules, landlock.PathAccess(access, filepath.Dir(k.Path)))
	}
	return rules
}
