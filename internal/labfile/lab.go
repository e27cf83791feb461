package labfile

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/daemon"
)

// Lab is a lab that was read.
type Lab struct {
	File   *configfile.File
	Config daemon.Config // of vring serve; not checked, see Lab.Check
	Guests []Guest       // in the order of Config.Guests
}

// Guest is a guest of a lab.
type Guest struct {
	Name    string
	Socket  string   // at which its front end is met
	Run     []string // its program with arguments, as the file has them; none if somebody else starts it
	Restart Restart
	MAC     string // that the file gives its port of a switch; "" for none

	said configfile.Said // of Run
	file *configfile.File
}

// Restart says when a guest's program is started again after it has ended.
type Restart string

// All that there are.
const (
	Never     Restart = "never"
	OnFailure Restart = "on-failure" // if its exit status is not 0
	Always    Restart = "always"
)

// Keys of the language.
const (
	runKey     = "run"
	restartKey = "restart"
)

// SocketWord is what stands in a guest's program for the path of its socket.
const SocketWord = "{socket}"

// Names of the sockets in the directory of a lab.
const (
	socketSuffix = ".sock"
	controlName  = "vring" + daemon.ControlSuffix
)

// ControlSocket is the path of the control socket of a lab with a directory.
func ControlSocket(dir string) string { return filepath.Join(dir, controlName) }

// language is that of a lab whose sockets are in a directory.
func language(dir string) *configfile.Language {
	const ofLab = "a lab has its own; leave it out"
	return &configfile.Language{
		Title: "Lab of vring lab",
		Guest: []configfile.Extra{
			{Name: runKey, List: true, About: "Program that is the guest, with its arguments: a text that is split at spaces, or a list. QEMU gets its network added; " +
				"in other programs " + SocketWord + " stands for the guest's socket. Without it, somebody else connects to the socket. Relative paths are seen from the directory of the file."},
			{Name: restartKey, Values: []string{string(Never), string(OnFailure), string(Always)}, About: "When the program is started again after it has ended. Default: never."},
		},
		Refused: map[string]string{
			"control": ofLab, "state": "a lab begins as its file says; leave it out", "client": "the guests of a lab connect to vring; leave it out",
			"one-off": "a lab is there until vring lab down; leave it out",
		},
		Socket: func(name string) string { return filepath.Join(dir, name+socketSuffix) },
	}
}

// Schema returns the JSON Schema of the file of a lab.
func Schema() []byte { return language("").Schema() }

// Parse reads the file of a lab, which messages call name, for a lab with a directory. The error holds all that is wrong, as
// faults of package configfile. groups is asked for the group of sockets.
func Parse(name string, text []byte, dir string, groups configfile.Groups) (*Lab, error) {
	file, err := language(dir).Parse(name, text, groups)
	if err != nil {
		return nil, err
	}
	l := &Lab{File: file, Config: file.Config}
	l.Config.Control = daemon.ParseControl(ControlSocket(dir))
	var errs *multierror.Error
	for i := range l.Config.Guests {
		g, err := l.guest(i)
		l.Guests, errs = append(l.Guests, g), multierror.Append(errs, err)
	}
	return l, errs.ErrorOrNil()
}

// guest reads what the file says of a guest beside its network.
func (l *Lab) guest(i int) (Guest, error) {
	of := &l.Config.Guests[i]
	g := Guest{Name: of.Name, Socket: of.SocketPath, Restart: Never, file: l.File}
	if of.Switch != nil && of.Switch.MAC != nil {
		g.MAC = of.Switch.MAC.String()
	}
	restart, restarts := l.File.Extra(i, restartKey)
	if restarts {
		g.Restart = Restart(restart.Values[0])
	}
	said, runs := l.File.Extra(i, runKey)
	switch {
	case runs && said.List && len(said.Values) == 0:
		return g, l.File.FaultAt(said, runKey+": want a program and its arguments")
	case runs && said.List:
		g.Run = said.Values
	case runs && strings.ContainsAny(said.Values[0], `"'\`):
		return g, l.File.FaultAt(said, runKey+`: quotes have no meaning in a text, which is split at spaces; write it as a list, as in [qemu-system-x86_64, -m, 1G]`)
	case runs:
		g.Run = strings.Fields(said.Values[0])
	case restarts:
		return g, l.File.FaultAt(restart, fmt.Sprintf("%s: the guest %s has no %s:, so nothing of it is started", restartKey, g.Name, runKey))
	}
	g.said = said
	return g, nil
}

// Check returns all that is wrong with the network of the lab, as faults of the file. It looks at the host for what the file names.
func (l *Lab) Check() error {
	_, err := l.Config.Check()
	return l.File.Locate(err)
}
