package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

// A user's own QEMU and kernel are tried by one command, whose guest needs nothing but vring.
func TestDoctorBootsAGuestAndReports(t *testing.T) {
	for _, u := range both() {
		t.Run(u.String(), func(t *testing.T) {
			t.Parallel()
			program, err := u.Tool("qemu-system-x86_64")
			require.NoError(t, err)
			kernel, err := guest.KernelImage(u)
			require.NoError(t, err)
			var told, report bytes.Buffer
			cmd := exec.CommandContext(limited(t), built.vring, "doctor", "--boot", "--emulate", "--qemu", program, "--kernel", kernel,
				"--modules", moduleTree(t, u))
			cmd.Stderr = &told
			p, err := process.Start(limited(t), cmd, process.Options{Thread: u.Thread(nil), Output: &report})
			require.NoError(t, err)
			require.NoError(t, p.Wait(testLimit), "%s\n%s", report.String(), told.String())
			for _, want := range []string{
				`ok       lease          10\.0\.2\.15/24, router 10\.0\.2\.2, MTU 1500, Linux \S+`,
				`ok       queue pairs    2`,
				`ok       stream out     [0-9.]+ Gbit/s, \d+ MiB, each byte compared`,
				`ok       stream in      [0-9.]+ Gbit/s, \d+ MiB, each byte compared`,
				`ok       interrupts     .*virtio0\S* [1-9]\d*`,
				`ok       forward added  used at once`,
				`ok       driver again   lease and stream again: [0-9.]+ Gbit/s`,
			} {
				require.Regexp(t, want, report.String())
			}
		})
	}
}

// moduleTree makes a directory of a kernel's modules as depmod leaves it.
func moduleTree(t *testing.T, u userland.Userland) string {
	order, err := guest.KernelModules(u)
	require.NoError(t, err)
	tree := t.TempDir()
	var table, builtin strings.Builder
	for i, file := range order {
		needed := slices.Clone(order[:i])
		slices.Reverse(needed)
		for j := range needed {
			needed[j] = filepath.Base(needed[j])
		}
		fmt.Fprintf(&table, "%s: %s\n", filepath.Base(file), strings.Join(needed, " "))
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(tree, filepath.Base(file)), content, 0o644))
	}
	if !strings.Contains(table.String(), "virtio_pci.ko") {
		builtin.WriteString("kernel/drivers/virtio/virtio_pci.ko\n")
	}
	require.NoError(t, os.WriteFile(filepath.Join(tree, "modules.dep"), []byte(table.String()), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(tree, "modules.builtin"), []byte(builtin.String()), 0o644))
	return tree
}
