package tap_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/tap"
)

// faults is a worker that takes note of faults.
type faults struct {
	netbackend.Worker
	told []error
}

func (f *faults) Fault(err error)          { f.told = append(f.told, err) }
func (*faults) Raise(netbackend.Notice)    {}
func (*faults) Rearm(int, uint64) error    { return nil }
func (*faults) Register(int, uint64) error { return nil }
func (*faults) Unregister(int)             {}

// Errors of the kernel that no device of a test can be made to give. A frame is dropped and counted, never tried for ever.
func TestEveryErrorOfTheKernelDropsOneFrameAndIsCounted(t *testing.T) {
	const sent, read = true, false
	for name, c := range map[string]struct {
		errno unix.Errno
		sent  bool // the call was to send a frame of the guest
		want  tap.Counters
		fault bool
	}{
		"down":                        {unix.EIO, sent, tap.Counters{Down: 1}, false},
		"refused":                     {unix.EINVAL, sent, tap.Counters{Refused: 1}, false},
		"no buffers":                  {unix.ENOBUFS, sent, tap.Counters{NoMemory: 1}, false},
		"no memory":                   {unix.ENOMEM, sent, tap.Counters{NoMemory: 1}, false},
		"guest memory is gone":        {unix.EFAULT, sent, tap.Counters{Detached: 1}, true},
		"unheard of":                  {unix.EPROTO, sent, tap.Counters{Refused: 1}, false},
		"a frame cannot be read":      {unix.EINVAL, read, tap.Counters{ReadErrors: 1}, false},
		"reading fails":               {unix.EPROTO, read, tap.Counters{ReadErrors: 1}, false},
		"memory to read into is gone": {unix.EFAULT, read, tap.Counters{ReadErrors: 1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			inNamespace(t)
			p := open(t, tap.Config{}).Ports()[0]
			w := &faults{}
			require.NoError(t, p.Start(modern, w))
			if c.sent {
				require.True(t, p.Unsent(c.errno), "the next frame has its turn")
			} else {
				require.Equal(t, c.errno != unix.EPROTO, p.Unread(c.errno), "an error that may last waits for an event")
			}
			require.Equal(t, c.want, p.Counters())
			require.Equal(t, c.fault, len(w.told) == 1)
		})
	}
}

func TestAFrameForWhichThereIsNoRoomInTheKernelWaits(t *testing.T) {
	inNamespace(t)
	p := open(t, tap.Config{}).Ports()[0]
	require.NoError(t, p.Start(modern, &faults{}))
	require.False(t, p.Unsent(unix.EAGAIN), "it stays in the ring")
	require.Equal(t, tap.Counters{Full: 1}, p.Counters())
}
