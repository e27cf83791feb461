package integration

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

// readPage reads a page in docs/.
func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(guest.ProjectRoot(), "docs", name))
	require.NoError(t, err)
	return string(text)
}

// unlabelled returns the lines of the first fenced block without a language in a section of a page.
func unlabelled(t *testing.T, page, heading string) []string {
	t.Helper()
	_, section, found := strings.Cut(readPage(t, page), "# "+heading+"\n")
	require.True(t, found)
	_, text, found := strings.Cut(section, "\n```\n")
	require.True(t, found)
	text, _, _ = strings.Cut(text, "\n```\n")
	return strings.Split(text, "\n")
}

// What users of either QEMU search for, they find.
func TestQEMUSaysWhatThePagesQuote(t *testing.T) {
	atOnceOnEachQEMU(t, func(t *testing.T, kind kind) {
		missing := filepath.Join(shortDir(t), "s")
		t.Run("without vring it waits if it is to reconnect", func(t *testing.T) {
			quote := strings.ReplaceAll(unlabelled(t, "troubleshooting.md", "The guest does not start")[0], "/tmp/vm0.sock", missing)
			p := startWithoutVring(t, kind.userland, missing, map[userland.Userland]string{
				userland.Bookworm: ",reconnect=1", userland.Forky: ",reconnect-ms=1000",
			}[kind.userland])
			require.Eventually(t, func() bool { return strings.Contains(p.Output(), quote) }, soon, tick, quote)
			select {
			case <-p.Done():
				require.Fail(t, "QEMU does not wait", p.Output())
			default:
			}
		})
		t.Run("without vring it ends otherwise", func(t *testing.T) {
			p := startWithoutVring(t, kind.userland, missing, "")
			require.Error(t, p.Wait(soon))
			require.Contains(t, p.Output(), "Failed to connect to '"+missing+"': No such file or directory")
			require.Contains(t, readPage(t, "quickstart-qemu.md"), "Failed to connect to '/tmp/vm0.sock': No such file or directory")
		})
		t.Run("it knows one word for reconnecting", func(t *testing.T) {
			wrong := map[userland.Userland]string{userland.Bookworm: "reconnect-ms", userland.Forky: "reconnect"}[kind.userland]
			p := startWithoutVring(t, kind.userland, missing, ","+wrong+"=1")
			require.Error(t, p.Wait(soon))
			require.Contains(t, p.Output(), "Invalid parameter '"+wrong+"'")
			require.Contains(t, readPage(t, "troubleshooting.md"), "Invalid parameter '"+wrong+"'")
		})
		t.Run("after a crash of vring", func(t *testing.T) {
			l := newLab(t, kind)
			l.vring.crash()
			for _, line := range unlabelled(t, "troubleshooting.md", "vring was restarted") {
				require.Eventually(t, func() bool { return strings.Contains(l.guest.Output(), line) }, soon, tick, line)
			}
			l.requireNetwork()
		})
	})
}

// startWithoutVring starts QEMU with a socket that nobody has made.
func startWithoutVring(t *testing.T, u userland.Userland, socket, options string) *process.Process {
	t.Helper()
	program, err := u.Tool("qemu-system-x86_64")
	require.NoError(t, err)
	cmd := exec.Command(program, "-accel", "tcg", "-nodefaults", "-display", "none", "-chardev", "socket,id=vring,path="+socket+options,
		"-netdev", "vhost-user,id=net,chardev=vring", "-device", "virtio-net-pci,netdev=net")
	p, err := process.Start(limited(t), cmd, process.Options{Thread: u.Thread(nil)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Kill()) })
	return p
}

// The page's properties give the guest no frame beyond its MTU.
func TestQEMUsSwitchesShortenTheGuestsFrames(t *testing.T) {
	const properties = "guest_tso4=off,guest_tso6=off,guest_ecn=off"
	require.Contains(t, readPage(t, "quickstart-qemu.md"), "| frames of the MTU | `"+properties+"` |")
	atOnceOnEachQEMU(t, func(t *testing.T, kind kind) {
		kind.device = properties
		l := newLab(t, kind)
		var before, after proto.Link
		l.do(&before, "link", card)
		l.transferIn()
		l.do(&after, "link", card)
		mean := (after.ReceivedBytes - before.ReceivedBytes) / (after.ReceivedPackets - before.ReceivedPackets)
		require.LessOrEqual(t, mean, uint64(1514), "bytes in a frame")
	})
}

// domainOfThePage returns the domain that the libvirt page shows.
func domainOfThePage(t *testing.T) string {
	t.Helper()
	_, text, found := strings.Cut(readPage(t, "libvirt.md"), "```xml\n")
	require.True(t, found)
	text, _, _ = strings.Cut(text, "```")
	return text
}

// The domain of the libvirt page has shared memory, and the socket that the unit makes.
func TestTheDomainOfTheLibvirtPageFitsTheUnit(t *testing.T) {
	var domain struct {
		Access struct {
			Mode string `xml:"mode,attr"`
		} `xml:"memoryBacking>access"`
		Interface struct {
			Type   string `xml:"type,attr"`
			Source struct {
				Type string `xml:"type,attr"`
				Path string `xml:"path,attr"`
				Mode string `xml:"mode,attr"`
			} `xml:"source"`
		} `xml:"devices>interface"`
	}
	require.NoError(t, xml.Unmarshal([]byte(domainOfThePage(t)), &domain))
	require.Equal(t, "shared", domain.Access.Mode)
	require.Equal(t, "vhostuser", domain.Interface.Type)
	require.Equal(t, "unix", domain.Interface.Source.Type)
	require.Equal(t, "client", domain.Interface.Source.Mode)
	template := strings.Replace(domain.Interface.Source.Path, "/vm0/", "/%i/", 1)
	require.Contains(t, readUnit(t, "vring@.service"), "--socket-path "+template+" ")
}
