package labfile

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/qemuopt"
	"github.com/vringnet/vring/internal/qemurun"
)

// Command returns the command line by which the guest is started. That of QEMU gets what its network needs, and no screen if it says
// nothing of one. version tells which QEMU a program is. The error is a fault of the file.
func (g *Guest) Command(version func(program string) qemuopt.Version) ([]string, error) {
	if !isQEMU(g.Run[0]) {
		return g.otherCommand()
	}
	words, err := g.withOthers(g.Run)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(words, saysScreen) {
		words = append(words, "-display", "none")
	}
	plan, err := qemurun.Rewrite(words, qemurun.Host{Version: version(words[0]), Socket: g.Socket, Queues: g.file.Config.QueuePairs(g.Socket), MAC: g.mac(), More: true})
	if err != nil {
		var faults []error
		for _, one := range configfile.Flatten(err) {
			faults = append(faults, g.fault("%v", one))
		}
		return nil, errors.Join(faults...)
	}
	if len(plan.NAT) > 0 {
		return nil, g.fault("QEMU's user network has options, which belong below nat: of the guest here: %s", strings.Join(plan.NAT, " "))
	}
	return plan.QEMU, nil
}

// otherSocket is what stands for the socket of another guest, which is a further card of this one.
var otherSocket = regexp.MustCompile(`\{socket:([^{}]*)\}`)

// withOthers returns words in which sockets of other guests have their paths.
func (g *Guest) withOthers(words []string) ([]string, error) {
	words = slices.Clone(words)
	for i := range words {
		for _, m := range otherSocket.FindAllStringSubmatch(words[i], -1) {
			guests := g.file.Config.Guests
			at := slices.IndexFunc(guests, func(other daemon.Guest) bool { return other.Name == m[1] })
			if at < 0 {
				return nil, g.fault("%s: there is no guest %q", m[0], m[1])
			}
			words[i] = strings.ReplaceAll(words[i], m[0], guests[at].SocketPath)
		}
	}
	return words, nil
}

// otherCommand is the command line of a program that is not QEMU.
func (g *Guest) otherCommand() ([]string, error) {
	words, err := g.withOthers(g.Run)
	if err != nil {
		return nil, err
	}
	found := false
	for i := range words {
		found = found || strings.Contains(words[i], SocketWord)
		words[i] = strings.ReplaceAll(words[i], SocketWord, g.Socket)
	}
	if !found {
		return nil, g.fault("the program is not QEMU, and is not told its socket; write %s where its path belongs", SocketWord)
	}
	return words, nil
}

// fault is one of what the file says of the program.
func (g *Guest) fault(format string, args ...any) error {
	return g.file.FaultAt(g.said, fmt.Sprintf("%s of %s: ", runKey, g.Name)+fmt.Sprintf(format, args...))
}

// isQEMU reports whether a program is QEMU by its name.
func isQEMU(program string) bool {
	name := filepath.Base(program)
	return strings.HasPrefix(name, "qemu-system-") || slices.Contains([]string{"kvm", "qemu-kvm"}, name)
}

// saysScreen reports whether an option of QEMU says something of its screen.
func saysScreen(word string) bool {
	return slices.Contains([]string{"-display", "--display", "-nographic", "--nographic", "-vnc", "--vnc", "-spice", "--spice"}, word)
}

// mac is the address of the guest's card, if its command line has none: that of its port, or one that follows from its name, so that no two
// guests of a lab have the one that QEMU gives to all.
func (g *Guest) mac() string {
	if g.MAC != "" {
		return g.MAC
	}
	sum := sha256.Sum256([]byte(g.Name))
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", sum[0], sum[1], sum[2])
}
