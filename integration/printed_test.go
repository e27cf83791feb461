package integration

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
	"github.com/vringnet/vring/internal/qemuopt"
)

// printedCommand returns the words of the command line that vring has printed for its guest, without the dots that stand for
// the guest's disk.
func (d *daemon) printedCommand() []string {
	d.t.Helper()
	for line := range strings.Lines(d.Output()) {
		words := strings.Fields(line)
		if len(words) > 1 && strings.HasPrefix(words[0], "qemu-system-") {
			require.Equal(d.t, "...", words[len(words)-1])
			return words[:len(words)-1]
		}
	}
	require.Fail(d.t, "no command of QEMU is printed", "%s", d.Output())
	return nil
}

// after returns the word after another one.
func after(t *testing.T, words []string, word string) string {
	t.Helper()
	for i, w := range words[:len(words)-1] {
		if w == word {
			return words[i+1]
		}
	}
	require.Fail(t, "no "+word, "%v", words)
	return ""
}

// A user adds a disk or a kernel to the command that vring prints, and changes nothing else of it. vring runs where that QEMU is
// the one that is installed.
func TestThePrintedCommandBootsAGuest(t *testing.T) {
	atOnceOnEachQEMU(t, func(t *testing.T, kind kind) {
		ctx, u := limited(t), kind.userland
		tcp := serveTCP(t, labBytes)
		vring := startVringWith(t, process.Options{Thread: u.Thread(nil)}, "nat",
			append([]string{"--allow-host", fmt.Sprintf("tcp:%d", tcp.Port)}, toldByLease...)...)
		words := vring.printedCommand()
		kernel, err := guest.KernelImage(u)
		require.NoError(t, err)
		program, err := u.Tool(words[0])
		require.NoError(t, err)

		args := append(words[1:], "-kernel", kernel, "-initrd", built.image(u, false, false), "-append", "console=ttyS0 quiet panic=-1",
			"-nographic")
		p, in, out, err := process.StartInteractive(ctx, exec.Command(program, args...), process.Options{Thread: u.Thread(nil)})
		require.NoError(t, err)
		l := &lab{t: t, ctx: ctx, kind: kind, vring: vring, tcp: tcp}
		l.guest = endWithTest(t, &testGuest{Process: p, Console: guest.NewConsole(out, in, p.Output)})
		l.requireTold(l.boot())
		l.transferOut()

		var link proto.Link
		l.do(&link, "link", card)
		require.Contains(t, after(t, words, "-device"), "mac="+link.MAC)
	})
}

// vring prints the command without running QEMU, because the version stands in the file of each.
func TestTheVersionStandsInTheFileOfEachQEMU(t *testing.T) {
	version := func(u userland.Userland) qemuopt.Version {
		path, err := u.File("/usr/bin/qemu-system-x86_64")
		require.NoError(t, err)
		program, err := os.Open(path)
		require.NoError(t, err)
		defer func() { _ = program.Close() }()
		return qemuopt.FindVersion(program)
	}
	require.Equal(t, qemuopt.Version{Major: 7, Minor: 2}, version(userland.Bookworm))
	require.GreaterOrEqual(t, version(userland.Forky).Major, 11)
}
