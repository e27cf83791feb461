package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/keeper"
	"github.com/vringnet/vring/internal/regularfile"
)

// sourceFile is the file that the configuration of a process comes from.
type sourceFile struct {
	name   string         // as the user has named it
	groups map[string]int // that it has named; there is no way to look one up from within the sandbox
	sum    string         // control.Sum of it when it was adopted last; guarded by reloader.mu once there is one
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
	f.sum = control.Sum(text)
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

// reloader lets a daemon follow what its configuration comes from.
type reloader struct {
	service *service
	daemon  *daemon.Daemon
	log     *slog.Logger
	kept    *keeper.Keeper // nil if nothing is kept

	mu  sync.Mutex    // of one reload
	was daemon.Config // what the file has said when it was last adopted, or the command line
}

// newReloader returns a reloader for a daemon that has what its configuration comes from says.
func newReloader(s *service, d *daemon.Daemon, log *slog.Logger, kept *keeper.Keeper) *reloader {
	return &reloader{service: s, daemon: d, log: log, kept: kept, was: s.base}
}

// keeps is what keeps changes, as the control socket knows it.
func (r *reloader) keeps() control.Keeper {
	if r.kept == nil {
		return nil
	}
	return r.kept
}

// adopts takes note of what the file says that counts as adopted. It requires mu.
func (r *reloader) adopts(says *daemon.Config, sum string) {
	r.was, r.service.file.sum = *says, sum
	if r.kept != nil {
		r.kept.SetBase(*says)
	}
}

// source is what the control socket offers of it.
func (r *reloader) source() control.Source {
	if r.service.file == nil {
		return control.Source{Read: func() (daemon.Config, error) { return r.service.base, nil }}
	}
	return control.Source{
		File: r.service.file.name, Path: r.service.file.path(), Reload: r.reload, Adopted: r.adopted, Saved: r.saved, Read: r.says,
	}
}

// says returns what the file says now.
func (r *reloader) says() (daemon.Config, error) {
	file, _, err := r.read()
	if err != nil {
		return daemon.Config{}, err
	}
	return file.Config, nil
}

// adopted is control.Sum of the file that was adopted last.
func (r *reloader) adopted() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.service.file.sum
}

// saved takes note of a file that was written as what runs.
func (r *reloader) saved(sum string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	file, is, err := r.read()
	if err != nil {
		return err
	}
	if is != sum {
		return fmt.Errorf("%s is not what was saved: somebody else has written it; vring ctl reload adopts it", r.service.file.name)
	}
	r.adopts(&file.Config, is)
	r.log.Info("what runs was saved in the configuration file", "file", r.service.file.name)
	return nil
}

// reload reads the file again, and adopts all of it or nothing. It logs what has become of it.
func (r *reloader) reload() (done control.Reloaded, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.daemon.Reload(func() { done, err = r.adopt() })
	r.tell(&done, err)
	r.service.events.Reloaded(&done, err)
	return done, err
}

// reloadAndKeep is reload for who waits for no answer.
func (r *reloader) reloadAndKeep() {
	_, err := r.reload() // it logs what has become of it
	if err == nil && r.kept != nil {
		_ = r.kept.Keep(keepPatience) // the keeper tells why not
	}
}

// tell logs what has become of a file that was read again.
func (r *reloader) tell(done *control.Reloaded, err error) {
	logForwards(r.log, &done.Applied)
	if err != nil {
		for _, fault := range configfile.Flatten(err) {
			r.log.Error("the configuration file is not adopted, and nothing changes", "fault", fault)
		}
		return
	}
	name := r.service.file.name
	for _, d := range done.Undone {
		r.log.Warn("what was changed at the control socket goes back, since the file says otherwise", differenceArgs(&d)...)
	}
	changed := configfile.KeysOf(done.Applied.Changed)
	if len(changed) == 0 {
		r.log.Info("the configuration file was read again; nothing has changed", "file", name)
		return
	}
	r.log.Info("the configuration file was read again, and is adopted", "file", name, "changed", strings.Join(changed, " "))
}

// differenceArgs are arguments of a line of the log that tell a difference. Of many values some are told.
func differenceArgs(d *configfile.Difference) []any {
	args := []any{"key", d.Key}
	for _, values := range []struct {
		name string
		list []string
	}{{"removed", d.Removed}, {"added", d.Added}} {
		if len(values.list) > 0 {
			args = append(args, values.name, someOf(values.list))
		}
	}
	if d.Moved {
		args = append(args, "moved", true)
	}
	return args
}

// someOf is a list in one line, of which the first ones are told.
func someOf(values []string) string {
	const most = 20
	if len(values) <= most {
		return strings.Join(values, ", ")
	}
	return fmt.Sprintf("%s, and %d more", strings.Join(values[:most], ", "), len(values)-most)
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

// read reads the file as it is now. sum is control.Sum of it.
func (r *reloader) read() (file *configfile.File, sum string, err error) {
	text, err := r.daemon.ReadConfigFile()
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", r.service.file.name, err)
	}
	file, err = configfile.Parse(r.service.file.name, text, r.service.file.knownGroup)
	return file, control.Sum(text), err
}

// adopt lets the daemon have the configuration of the file as it is now.
func (r *reloader) adopt() (done control.Reloaded, err error) {
	file, sum, err := r.read()
	if err != nil {
		return done, err
	}
	done, err = control.Adopt(r.daemon, &r.was, &file.Config)
	if err == nil {
		r.adopts(&file.Config, sum)
	}
	return done, file.Locate(err)
}
