package bootcheck

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/stretchr/testify/require"
)

func TestDataThatIsNotWhatWasSentIsNoticed(t *testing.T) {
	const size = 3<<20 + 17
	var sent bytes.Buffer
	require.NoError(t, sendData(&sent, size))
	for name, c := range map[string]struct {
		change func(data []byte) []byte
		want   Received
	}{
		"whole":            {func(d []byte) []byte { return d }, Received{Bytes: size, Wrong: -1}},
		"a byte is wrong":  {func(d []byte) []byte { d[2<<20+5] ^= 1; return d }, Received{Bytes: size, Wrong: 2<<20 + 5}},
		"the last is":      {func(d []byte) []byte { d[size-1] ^= 1; return d }, Received{Bytes: size, Wrong: size - 1}},
		"a byte is lost":   {func(d []byte) []byte { return slices.Delete(d, 1000, 1001) }, Received{Bytes: size - 1, Wrong: 1000}},
		"a byte is double": {func(d []byte) []byte { return slices.Insert(d, 1<<20, d[1<<20-1]) }, Received{Bytes: size, Wrong: 1 << 20}},
		"the end is lost":  {func(d []byte) []byte { return d[:size-1] }, Received{Bytes: size - 1, Wrong: -1}},
		"nothing":          {func(d []byte) []byte { return nil }, Received{Bytes: 0, Wrong: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := receiveData(bytes.NewReader(c.change(slices.Clone(sent.Bytes()))), size)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
			require.Equal(t, name == "whole", whole(got, size) == nil, "%v", whole(got, size))
		})
	}
}

// The guest is one that checks what it gets, but it may be broken: it cannot make the host keep what it prints.
func TestTheConsoleTakesWhatAGuestPrints(t *testing.T) {
	c := newConsole()
	long := strings.Repeat("x", 10*lineLimit)
	for _, part := range []string{"SeaBIOS\r\n", "\x1b[0mvring-ch", "eck: rea", "dy\r\n", long, "\nvring-check: failed no card\n", "half a line"} {
		n, err := c.Write([]byte(part))
		require.NoError(t, err)
		require.Equal(t, len(part), n)
	}
	require.Equal(t, stateReady, <-c.states)
	require.Equal(t, "failed no card", <-c.states)
	require.Contains(t, c.tail(), "SeaBIOS\n")
	require.True(t, strings.HasSuffix(c.tail(), "half a line"))
	require.Less(t, len(c.tail()), 3*lineLimit)

	for range 10 * consoleLines {
		_, _ = c.Write([]byte(prefix + stateReady + "\n"))
	}
	require.LessOrEqual(t, strings.Count(c.tail(), "\n"), consoleLines)
	require.Len(t, c.states, cap(c.states))
}

func TestInterruptsAreCountedOverAllProcessors(t *testing.T) {
	const table = `           CPU0       CPU1
 24:          0          7   PCI-MSI 32768-edge      virtio0-config
 25:        100         23   PCI-MSI 32769-edge      virtio0-input.0
 10:          5          6   IO-APIC  10-fasteoi     virtio1
NMI:          0          0   Non-maskable interrupts
ERR:          0
`
	require.Equal(t, map[string]uint64{"virtio0-config": 7, "virtio0-input.0": 123}, interruptsOf(table, "virtio0"))
	require.Equal(t, map[string]uint64{"virtio1": 11}, interruptsOf(table, "virtio1"))
	require.Empty(t, interruptsOf(table, "virtio2"))
}

// The lines are of depmod(8): what a module needs is in the order in which it would be unloaded.
func TestModulesComeAfterWhatTheyNeed(t *testing.T) {
	tree := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(tree, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	_, err := modulesInOrder(tree, neededModules)
	require.ErrorContains(t, err, "--modules")

	write("modules.dep", `kernel/net/core/failover.ko.gz:
kernel/drivers/net/net_failover.ko.gz: kernel/net/core/failover.ko.gz
kernel/drivers/net/virtio_net.ko.gz: kernel/drivers/net/net_failover.ko.gz kernel/net/core/failover.ko.gz
`)
	_, err = modulesInOrder(tree, neededModules)
	require.ErrorContains(t, err, "no module virtio_pci")

	write("modules.builtin", "kernel/drivers/virtio/virtio_pci.ko\n")
	order, err := modulesInOrder(tree, neededModules)
	require.NoError(t, err)
	require.Equal(t, []string{
		filepath.Join(tree, "kernel/net/core/failover.ko.gz"), filepath.Join(tree, "kernel/drivers/net/net_failover.ko.gz"),
		filepath.Join(tree, "kernel/drivers/net/virtio_net.ko.gz"),
	}, order)

	for _, file := range order {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, _ = w.Write([]byte(filepath.Base(file)))
		require.NoError(t, w.Close())
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, packed.Bytes(), 0o644))
	}
	image := filepath.Join(tree, "image")
	require.NoError(t, writeImage(image, filepath.Join(tree, "modules.dep"), tree))
	require.Equal(t, []string{
		"dev", "proc", "sys", "modules", "vring", "modules/00-failover.ko", "modules/01-net_failover.ko", "modules/02-virtio_net.ko",
	}, namesIn(t, image))
}

// namesIn returns the names in an archive; a module's content must be what the test packed.
func namesIn(t *testing.T, image string) (names []string) {
	f, err := os.Open(image)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	for r := cpio.NewReader(f); ; {
		header, err := r.Next()
		if err != nil {
			return names
		}
		names = append(names, header.Name)
		if strings.HasSuffix(header.Name, ".ko") {
			var content bytes.Buffer
			_, err := content.ReadFrom(r)
			require.NoError(t, err)
			require.Equal(t, header.Name[len("modules/00-"):]+".gz", content.String())
		}
	}
}

func TestAKernelThatCannotBeReadIsSaidAtOnce(t *testing.T) {
	_, err := Run(t.Context(), Config{Kernel: filepath.Join(t.TempDir(), "vmlinuz")})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "--kernel")
}

func TestTheGuestsCommandIsForTheFirstProcessOnly(t *testing.T) {
	require.ErrorIs(t, RunGuest(), ErrNotAGuest)
}

// The guest answers what it is asked, and says what is wrong with anything else.
func TestTheGuestAnswersRequests(t *testing.T) {
	for request, want := range map[string]string{
		requestReceive + " 100\n" + string(block[:100]): `{"Bytes":100,"Wrong":-1}` + "\n",
		requestReceive + " 5\nwrong":                    `{"Bytes":5,"Wrong":0}` + "\n",
		requestReceive + " 9\n" + string(block[:2]):     `{"Bytes":2,"Wrong":-1}` + "\n",
		requestEcho + "\nping":                          "ping",
		requestSend + " 3\n":                            string(block[:3]),
	} {
		got, err := asked(t, request)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, request := range []string{"\n", "", "unknown\n", requestSend + "\n", requestSend + " many\n", requestReceive + "\n", requestDial + " 127.0.0.1:1\n"} {
		_, err := asked(t, request)
		require.Error(t, err, "%q", request)
	}
}

// asked returns what the guest answers to a connection's whole content.
func asked(t *testing.T, request string) (string, error) {
	near, far := net.Pipe()
	answer := make(chan string)
	go func() {
		_, _ = near.Write([]byte(request))
		var got bytes.Buffer
		_, _ = got.ReadFrom(near)
		answer <- got.String()
	}()
	_, err := new(guest).answer(&halfClosed{Conn: far, left: len(request)})
	require.NoError(t, far.Close())
	return <-answer, err
}

// halfClosed is a connection whose peer sends so many bytes and then no more.
type halfClosed struct {
	net.Conn
	left int
}

func (c *halfClosed) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
