package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/capture/filter"
	"github.com/vringnet/vring/netbackend/capture/pcapng"
)

// begins calls a function when something is written.
type begins struct {
	bytes.Buffer
	then func()
}

func (b *begins) Write(p []byte) (int, error) {
	defer b.then()
	return b.Buffer.Write(p)
}

func TestACaptureOfAServedGuestIsAFile(t *testing.T) {
	for _, mode := range []string{"on", "off"} {
		t.Run("sandbox "+mode, func(t *testing.T) {
			c := startControlled(t, "--sandbox", mode)
			path := filepath.Join(t.TempDir(), "f.pcapng")
			status, stdout, stderr := c.ctl("capture", "10.0.2.15", "-w", path, "--duration", "20ms", "--snaplen", "128", "--gso", "cut", "tcp", "port", "80")
			require.Equal(t, exitOK, status, stderr)
			require.Empty(t, stdout)
			require.Equal(t, "0 packets captured, 0 missed\n", stderr)
			out, err := exec.CommandContext(t.Context(), "capinfos", path).CombinedOutput()
			require.NoError(t, err, string(out))
			require.Contains(t, string(out), "10.0.2.15 queue 0")
			require.Contains(t, string(out), "tcp port 80")
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode())

			ctx, cancel := context.WithCancel(t.Context()) // as Ctrl-C does
			piped := &begins{then: cancel}
			var errs strings.Builder
			require.Equal(t, exitOK, run(ctx, []string{"ctl", "--control", c.control, "capture", c.socket}, piped, &errs), errs.String())
			require.Equal(t, "0 packets captured, 0 missed\n", errs.String())
			list := exec.CommandContext(t.Context(), "tcpdump", "-nr", "-")
			list.Stdin = &piped.Buffer
			out, err = list.CombinedOutput()
			require.NoError(t, err, string(out))
		})
	}
}

func TestWhatIsWrongWithACaptureIsTold(t *testing.T) {
	c := startControlled(t, "--sandbox", "off")
	path := filepath.Join(t.TempDir(), "f")
	for args, want := range map[string]string{
		"capture":                      "which guest? vring ctl guests lists them",
		"capture 10.0.2.99 -w " + path: `there is no guest "10.0.2.99"; there are ["10.0.2.15" "10.0.2.16"]`,
		"capture 10.0.2.15 tcp port http -w " + path:  "names are not looked up",
		"capture 10.0.2.15 --snaplen 5 -w " + path:    "want 14 to 65557 bytes",
		"capture 10.0.2.15 --gso no -w " + path:       "want whole or cut",
		"capture 10.0.2.15 --duration=-1s -w " + path: "want a time above 0",
		"capture 10.0.2.15 --watch -w " + path:        "--watch: a capture goes on anyway",
		"capture 10.0.2.15 -o json -w " + path:        "--output: a capture has a format of its own",
		"capture 10.0.2.15 --ring 3":                  "--ring: want the name of the files, by -w FILE",
		"capture 10.0.2.15 --ring 1 -w " + path:       "want 2 to 99999 files",
		"capture 10.0.2.15 --ring-size 1K -w " + path: "want at least 64K",
		"capture 10.0.2.15 --ring-size x -w " + path:  "want at least 64K",
		"capture 10.0.2.15 --flow x -w " + path:       "want it as vring ctl flows prints it",
		"capture 10.0.2.15 -w /nowhere/at/all":        "no such file or directory",
	} {
		status, _, stderr := c.ctl(strings.Fields(args)...)
		require.Equal(t, exitUsage, status, "%s: %s", args, stderr)
		require.Contains(t, stderr, want, args)
		require.NoFileExists(t, path, args)
	}
}

func TestAFlowIsAFilter(t *testing.T) {
	f := captureFlags{gso: "whole", flow: "tcp 10.0.2.15:40000 192.0.2.34:443"}
	q, err := f.query([]string{"tcp[13]", "&", "2", "!=", "0"})
	require.NoError(t, err)
	p, err := filter.Parse(q.Get("filter"))
	require.NoError(t, err)
	frame := make([]byte, 60)
	copy(frame[12:], []byte{8, 0, 0x45})
	frame[23] = 6
	copy(frame[26:], []byte{10, 0, 2, 15, 192, 0, 2, 34, 0x9c, 0x40, 1, 187})
	frame[34+13] = 2
	require.True(t, p.Match(frame, 60))
	copy(frame[26:], []byte{192, 0, 2, 34, 10, 0, 2, 15, 1, 187, 0x9c, 0x40})
	require.True(t, p.Match(frame, 60), "the way back")
	frame[34+13] = 16
	require.False(t, p.Match(frame, 60), "no SYN")
	frame[34+13] = 2
	frame[35] = 188
	require.False(t, p.Match(frame, 60), "another port")
	f.flow = "udp [fd00::15]:53 [2001:db8::1]:53"
	_, err = f.query(nil)
	require.NoError(t, err)
	for _, wrong := range []string{"tcp", "icmp 10.0.2.15:1 192.0.2.1:1", "tcp 10.0.2.15 192.0.2.1:1", "tcp 10.0.2.15:1 host:1", "tcp a b c"} {
		f.flow = wrong
		_, err = f.query(nil)
		require.ErrorContains(t, err, "--flow", wrong)
	}
}

// stream is a capture of some packets of so many bytes.
func stream(packets, length int) io.Reader {
	b := pcapng.AppendSection(nil, "test")
	b = pcapng.AppendInterface(b, &pcapng.InterfaceInfo{Name: "a", SnapLen: 65535})
	b = pcapng.AppendInterface(b, &pcapng.InterfaceInfo{Name: "b", SnapLen: 65535})
	for i := range packets {
		b = pcapng.AppendPacket(b, &pcapng.PacketInfo{Interface: i % 2, Time: time.Unix(0, int64(i)), Length: length, Data: make([]byte, length)})
		b = pcapng.AppendStatistics(b, &pcapng.StatisticsInfo{Interface: 0, Time: time.Unix(1, 0), Received: uint64(i), Dropped: uint64(i / 2)})
	}
	b = pcapng.AppendStatistics(b, &pcapng.StatisticsInfo{Interface: 1, Time: time.Unix(1, 0), Received: 7, Dropped: 3})
	return bytes.NewReader(b)
}

// The last files are there, each is a file by itself, and none is too large.
func TestFilesOfARingFollowEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.x.pcapng")
	r := newRingSink(path, 3, 10000)
	counts, err := copyCapture(r, stream(100, 1000))
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.EqualValues(t, 100, counts.packets)
	require.EqualValues(t, 49+3, counts.missed(), "what each interface has told last")
	files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	require.NoError(t, err)
	require.Len(t, files, 3)
	require.Equal(t, strings.Replace(path, ".pcapng", fmt.Sprintf("-%05d.pcapng", r.serial), 1), files[2])
	for _, name := range files {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Less(t, info.Size(), int64(10200)) // and some statistics
		out, err := exec.CommandContext(t.Context(), "capinfos", name).CombinedOutput()
		require.NoError(t, err, "%s: %s", name, out)
		require.Contains(t, string(out), "Number of interfaces in file: 2")
	}
}

func TestACaptureThatIsCutOffIsAnError(t *testing.T) {
	whole, err := io.ReadAll(stream(3, 100))
	require.NoError(t, err)
	for n := range whole {
		_, err := copyCapture(&fileSink{to: io.Discard}, bytes.NewReader(whole[:n]))
		if errors.Is(err, io.ErrUnexpectedEOF) {
			continue
		}
		require.NoError(t, err, "%d bytes: between two blocks it may end", n)
	}
	_, err = copyCapture(&fileSink{to: io.Discard}, strings.NewReader("HTTP/1.1 200 OK\r\n"))
	require.ErrorContains(t, err, "it is no capture")
}

func TestSizesAreRead(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "64K": 64 << 10, "2M": 2 << 20, "3G": 3 << 30} {
		n, err := parseSize(text)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	for _, text := range []string{"", "K", "-1", "0", "1T", "1.5M", "99999999999G"} {
		_, err := parseSize(text)
		require.Error(t, err, text)
	}
}
