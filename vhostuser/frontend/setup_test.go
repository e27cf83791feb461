package frontend

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// twoRings is a device with one queue pair. Nothing is sent, so its descriptors need not exist.
func twoRings(o Order) *Setup {
	r := Ring{Num: 256, KickFD: 100, CallFD: 101, ErrFD: 102}
	return &Setup{Order: o, Rings: []Ring{r, r}, Memory: []guestmem.Region{{Size: 4096, FD: 103}}}
}

func requests(steps []Step) []string {
	var names []string
	for _, s := range steps {
		names = append(names, s.Message.Request.String())
	}
	return names
}

// The first start in the recording of QEMU, which repeats what comes before.
func TestQEMUOrderIsThatOfTheRecording(t *testing.T) {
	for order, file := range map[Order]string{QEMU: "qemu-7.2.txt", QEMU11: "qemu-11.1.txt"} {
		setup := twoRings(order)
		if order == QEMU11 {
			setup.Memory = append(setup.Memory, setup.Memory[0]) // two regions on q35
		}
		recorded := recording(t, file)
		steps := requests(setup.Steps(0))
		start := slices.Index(steps, wire.SetFeatures.String())
		from := slices.Index(recorded, wire.SetFeatures.String())
		require.Equal(t, recorded[from:from+len(steps)-start], steps[start:], file)
	}
}

// recording returns the names of the messages in a recording.
func recording(t *testing.T, file string) (names []string) {
	f, err := os.Open("../wire/testdata/" + file)
	require.NoError(t, err)
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name := requestOf(t, s.Text()); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// requestOf returns the name of the message in a line, "" for a comment.
func requestOf(t *testing.T, line string) string {
	fds, bytes, ok := strings.Cut(line, " ")
	if !ok || fds == "#" {
		return ""
	}
	const digits = "0123456789abcdef"
	high, low := strings.IndexByte(digits, bytes[0]), strings.IndexByte(digits, bytes[1])
	require.True(t, high >= 0 && low >= 0, line)
	return wire.Request(high<<4 | low).String()
}

func TestEveryOrderTellsTheSame(t *testing.T) {
	for _, o := range []Order{QEMU, CloudHypervisor, DPDK, UserModeLinux, QEMU11} {
		t.Run(o.String(), func(t *testing.T) {
			seen := map[string]int{}
			for _, s := range twoRings(o).Steps(0) {
				seen[s.Message.Request.String()]++
				require.Len(t, s.FDs, s.Message.FDs())
			}
			delete(seen, wire.SetVringCall.String()) // QEMU sends it twice
			memory := "SET_MEM_TABLE"
			if o == QEMU11 {
				memory = "ADD_MEM_REG"
			}
			require.Equal(t, map[string]int{
				"SET_FEATURES": 1, memory: 1, "SET_VRING_NUM": 2, "SET_VRING_BASE": 2, "SET_VRING_ADDR": 2,
				"SET_VRING_KICK": 2, "SET_VRING_ERR": 2, "SET_VRING_ENABLE": 2,
			}, seen)
		})
	}
}

func TestNewConnTakesOnlyUnixSockets(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer w.Close()
	fd, err := unix.FcntlInt(r.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	_, err = NewConn(fd)
	require.Error(t, err)
}
