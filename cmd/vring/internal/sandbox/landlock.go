package sandbox

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	"github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// restrictFiles lets Landlock deny what cfg does not name.
func restrictFiles(cfg *Config) error {
	if abi, err := syscall.LandlockGetABIVersion(); err != nil || abi < 1 {
		cfg.Log.Info("sandbox: this kernel has no Landlock, so files are not restricted", "err", err)
		return nil
	}
	return landlockConfig(cfg).BestEffort().Restrict(fileRules(cfg)...)
}

// landlockConfig says what needs a rule to be allowed.
func landlockConfig(cfg *Config) landlock.Config {
	c := landlock.V7
	if cfg.Internet {
		// A guest may connect to any port, and Landlock has no rule for all of them. Ports to listen on are open.
		c.HandledAccessNet = syscall.AccessNetBindTCP
	}
	if slices.ContainsFunc(cfg.Dial, isAbstract) {
		c.Scoped &^= syscall.ScopeAbstractUnixSocket
	}
	return c
}

func isAbstract(socket string) bool { return strings.HasPrefix(socket, "@") }

// fileRules allow what cfg names. A directory that is not there needs no rule.
func fileRules(cfg *Config) (rules []landlock.Rule) {
	allow := func(access landlock.AccessFSSet, dir string) {
		rules = append(rules, landlock.PathAccess(access, dir).IgnoreIfMissing())
	}
	for _, path := range cfg.Read {
		allow(syscall.AccessFSReadFile, filepath.Dir(path))
		if target, err := filepath.EvalSymlinks(path); err == nil {
			allow(syscall.AccessFSReadFile, filepath.Dir(target))
		}
	}
	for _, path := range cfg.Remove {
		allow(syscall.AccessFSRemoveFile, filepath.Dir(path))
	}
	return rules
}
