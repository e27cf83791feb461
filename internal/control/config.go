package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// Source is where the configuration of a daemon comes from. Its functions may be called by several goroutines.
type Source struct {
	File string // its name, "" for a command line
	Path string // its absolute path, "" for a command line
	// Read returns what it says now. What is wrong with a file are faults of package configfile.
	Read func() (daemon.Config, error)
	// Reload lets the daemon adopt what the file says now, all or nothing; nil for a command line.
	Reload func() (Reloaded, error)
	// Adopted is Sum of the file that was adopted last. Saved takes note of one with another Sum, which somebody has written as what runs, so
	// that it counts as adopted; both are nil for a command line.
	Adopted func() string
	Saved   func(sum string) error
}

// Sum is a short name for the content of a file: its SHA-256, in hexadecimal.
func Sum(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Reloaded is what became of a file that was read again.
type Reloaded struct {
	daemon.Applied
	Changed []configfile.Difference
	Undone  []configfile.Difference // that were changed at the control socket
}

// Adopt lets a daemon have the configuration that a file says, all or nothing. was is what the file has said before: of what was changed
// since, that which goes back is told.
func Adopt(d *daemon.Daemon, was, says *daemon.Config) (done Reloaded, err error) {
	var changed, undone []configfile.Difference
	done.Applied, err = d.Change(func(c *daemon.Config) error {
		changed, undone = configfile.Diff(c, says), configfile.Undone(was, c, says)
		*c = *says
		return nil
	})
	if err == nil {
		done.Changed, done.Undone = changed, undone
	}
	return done, err
}

func (s *Server) reload(_ *http.Request, body []byte) (any, error) {
	if len(bytes.TrimSpace(body)) > 0 {
		return nil, unread("it must be empty: the file says what is wanted")
	}
	if s.Source.Reload == nil {
		return nil, failed(http.StatusUnprocessableEntity, "this vring was started with flags, and has no file to read; vring config from-flags makes one, and vring serve follows it")
	}
	if err := s.admitChange(); err != nil {
		return nil, err
	}
	done, err := s.Source.Reload()
	if err != nil {
		return nil, refused(&done.Applied, err)
	}
	answer := changed(&done.Applied, done.Changed, done.Undone)
	answer.NotKept = s.notKept()
	return answer, nil
}

func (s *Server) config(*http.Request, []byte) (any, error) {
	c := s.Daemon.Config()
	text, err := configfile.Marshal(&c, configfile.Short)
	if err != nil {
		return nil, failed(http.StatusUnprocessableEntity, "%v", err)
	}
	return &raw{"application/yaml", []byte(spec.MaskAllSecrets(string(text)))}, nil
}

// configDiff reads the file, for which the broker is asked: so it is bounded as changes are.
func (s *Server) configDiff(*http.Request, []byte) (any, error) {
	if err := s.admitChange(); err != nil {
		return nil, err
	}
	says, err := s.Source.Read()
	if err != nil {
		return nil, refused(&daemon.Applied{}, err)
	}
	now := s.Daemon.Config()
	answer := &api.ConfigDiff{File: s.Source.File, Path: s.Source.Path, Differences: differencesOf(configfile.Diff(&says, &now))}
	if s.Keeper != nil {
		answer.State, _ = s.Keeper.File()
	}
	if s.Source.Adopted != nil {
		answer.Adopted = s.Source.Adopted()
	}
	return answer, nil
}

// configSaved lets a file count as adopted that a client has written. Nothing else changes.
func (s *Server) configSaved(_ *http.Request, body []byte) (any, error) {
	saved, err := read[api.ConfigSaved](body)
	if err != nil {
		return nil, err
	}
	if s.Source.Saved == nil {
		return nil, failed(http.StatusUnprocessableEntity, "this vring was started with flags, and follows no file")
	}
	if err := s.admitChange(); err != nil {
		return nil, err
	}
	if err := s.Source.Saved(cut(saved.SHA256)); err != nil {
		return nil, refused(&daemon.Applied{}, err)
	}
	_ = s.notKept() // what is left in the state does nothing beside a file that says the same
	return &saved, nil
}
