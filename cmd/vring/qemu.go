package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/cmd/vring/doctor"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/qemuopt"
)

// qemuPatience is how long QEMU may take to print its version. vring opens its network meanwhile, but then waits: nothing
// that was started may be left when it enters its sandbox, where it could not be ended any more.
const qemuPatience = 2 * time.Second

// qemuHost is what a command line of QEMU depends on, apart from the guest.
type qemuHost struct {
	name    string // of the host
	program string
	version qemuopt.Version
	kvm     bool
	stream  bool // the guest's memory is not shared
}

// lookAtQEMU asks the host, and the QEMU that is installed.
func lookAtQEMU() qemuHost {
	host := doctor.Local("")
	name, _ := os.Hostname() // an empty name will do
	return qemuHost{name: name, program: host.QEMU, version: versionOf(host.QEMU), kvm: host.HasKVM()}
}

// versionOf reads the version of a QEMU program in its file, which is cheap. A program that only begins QEMU is asked.
func versionOf(program string) qemuopt.Version {
	if v := readVersion(program); v.Known() {
		return v
	}
	return askVersion(program)
}

// readVersion looks for the version in the file of a program.
func readVersion(program string) qemuopt.Version {
	path, err := exec.LookPath(program)
	if err != nil {
		return qemuopt.Version{}
	}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO is no reason to wait
	if err != nil {
		return qemuopt.Version{}
	}
	defer func() { _ = file.Close() }()
	return qemuopt.FindVersion(file)
}

// askVersion runs a QEMU program, for qemuPatience at most. It has ended then.
func askVersion(program string) qemuopt.Version {
	ctx, cancel := context.WithTimeout(context.Background(), qemuPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--version")
	cmd.WaitDelay = time.Second // for a child of its own that keeps the output open
	text, _ := cmd.Output()     // what it cannot tell is an unknown version
	return qemuopt.ParseVersion(string(text))
}

// command is a command line, ready to paste, that boots a guest behind the socket once its disk is added.
func (h *qemuHost) command(socket string, client bool, queues int) string {
	if absolute, err := filepath.Abs(socket); err == nil {
		socket = absolute
	}
	g := qemuopt.Guest{
		Program: h.program, Version: h.version, Socket: socket, Listen: client, Queues: queues,
		MAC: qemuopt.MAC(h.name, socket), KVM: h.kvm, Stream: h.stream,
	}
	return g.Command()
}

// qemuHint is how the guests' QEMUs are started.
type qemuHint struct {
	commands []string
	note     string // what else must be known, "" for nothing
	stream   bool   // the guest's memory is not shared
}

// hint returns the commands for the sockets, each of which has so many queue pairs.
func (h *qemuHost) hint(sockets []string, client bool, queues func(socket string) int) (hint qemuHint) {
	hint.stream = h.stream
	for _, path := range sockets {
		hint.commands = append(hint.commands, h.command(path, client, queues(path)))
	}
	if !client && !h.version.Known() {
		hint.note = fmt.Sprintf("QEMU up to 9.1 wants %s instead of %s", qemuopt.ReconnectSeconds, qemuopt.ReconnectMillis)
	}
	return hint
}

// text is the hint as a person reads it; empty if there are no commands.
func (h *qemuHint) text() string {
	if len(h.commands) == 0 {
		return ""
	}
	text := "Start the guest with shared memory (share=on is easily forgotten):\n"
	if h.stream {
		text = "Start the guest, with any network card:\n"
	}
	for _, c := range h.commands {
		text += "  " + c + "\n"
	}
	if h.note != "" {
		text += "  (" + h.note + ")\n"
	}
	return text
}

// print prints the hint, if there are commands.
func (h *qemuHint) print(out console) {
	if len(h.commands) == 0 {
		return
	}
	values := []any{"commands", h.commands}
	if h.note != "" {
		values = append(values, "note", h.note)
	}
	out.print(h.text(), slog.LevelInfo, "QEMU command lines", values...)
}

// asksQEMU reports whether anybody reads how QEMU is to be started: not a service manager's log, nor whoever passes a
// descriptor, and so has a front end already, nor who has chosen another one.
func asksQEMU(c *daemon.Config) bool {
	of := c.FrontEnds.Kind
	return c.FrontEnds.FD == nil && os.Getenv("NOTIFY_SOCKET") == "" && (of.SharesMemory() || of == daemon.FrontEndStream)
}

// startAsking looks at QEMU in the background. The result waits for what is found, and must be called before the process
// enters its sandbox.
func startAsking(c *daemon.Config) func() qemuHint {
	if !asksQEMU(c) {
		return func() qemuHint { return qemuHint{} }
	}
	found := make(chan qemuHint, 1)
	go func() {
		qemu := lookAtQEMU()
		qemu.stream = !c.FrontEnds.Kind.SharesMemory()
		usual := slices.DeleteFunc(c.Sockets(), func(path string) bool { return c.FrontEndOf(path) != c.FrontEnds.Kind })
		found <- qemu.hint(usual, c.FrontEnds.Client, c.QueuePairs)
	}()
	return func() qemuHint { return <-found }
}
