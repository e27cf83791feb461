package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/regularfile"
)

// sourceFile is the file that the configuration of a process comes from.
type sourceFile struct {
	name   string         // as the user has named it
	groups map[string]int // that it has named; there is no way to look one up from within the sandbox
}

func newSourceFile(name string) *sourceFile { return &sourceFile{name: name, groups: map[string]int{}} }

// path is the absolute path, "" for no file.
func (f *sourceFile) path() string {
	if f == nil {
		return ""
	}
	if absolute, err := filepath.Abs(f.name); err == nil {
		return absolute
	}
	return f.name
}

// check reads the file, and looks at the host for what it names.
func (f *sourceFile) check() (*daemon.Checked, error) {
	text, err := regularfile.Read(f.name, daemon.MaxConfigFile)
	if err != nil {
		return nil, wrongUse(err)
	}
	file, err := configfile.Parse(f.name, text, f.lookupGroup)
	if err != nil {
		return nil, wrongFile(err)
	}
	checked, err := file.Config.Check()
	return checked, wrongFile(file.Locate(err))
}

// lookupGroup looks up a group, and remembers it.
func (f *sourceFile) lookupGroup(text string) (int, error) {
	group, err := daemon.LookupGroup(text)
	if err == nil {
		f.groups[text] = group
	}
	return group, err
}

// knownGroup returns a group that lookupGroup has found, or one by its number.
func (f *sourceFile) knownGroup(text string) (int, error) {
	if group, found := f.groups[text]; found {
		return group, nil
	}
	group, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("socket-group %q: it cannot change while guests are served", text)
	}
	return int(group), nil
}

// reload reads the file again, and adopts all of it or nothing. It logs what has become of it.
func (s *service) reload(log *slog.Logger, d *daemon.Daemon) {
	applied, err := s.adopt(d)
	logForwards(log, &applied)
	if err != nil {
		for _, fault := range flatten(err) {
			log.Error("the configuration file is not adopted, and nothing changes", "fault", fault)
		}
		return
	}
	changed := configfile.KeysOf(applied.Changed)
	if len(changed) == 0 {
		log.Info("the configuration file was read again; nothing has changed", "file", s.file.name)
		return
	}
	log.Info("the configuration file was read again, and is adopted", "file", s.file.name, "changed", strings.Join(changed, " "))
}

// logForwards logs what a change has brought that nobody could know before.
func logForwards(log *slog.Logger, a *daemon.Applied) {
	for _, gap := range a.Gaps {
		log.Info("a forward was closed for a moment, since another one needed its place", "option", "-p "+gap.Forward.String(), "for", gap.For)
	}
	for i := range a.Lost {
		log.Error("a forward is lost: it made room for another one, which cannot be opened, and another program has its place now",
			"option", "-p "+a.Lost[i].String())
	}
	for _, guest := range a.Waiting {
		log.Warn("a guest's thread does not answer yet; the change is made before it handles a frame again", "guest", guest)
	}
}

// adopt lets d have the configuration of the file as it is now.
func (s *service) adopt(d *daemon.Daemon) (daemon.Applied, error) {
	text, err := d.ReadConfigFile()
	if err != nil {
		return daemon.Applied{}, fmt.Errorf("%s: %w", s.file.name, err)
	}
	file, err := configfile.Parse(s.file.name, text, s.file.knownGroup)
	if err != nil {
		return daemon.Applied{}, err
	}
	applied, err := d.Apply(file.Config)
	return applied, file.Locate(err)
}
