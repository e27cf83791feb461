package integration

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The tests rely on requireAllDescriptors to find a lost descriptor, so its parts must fail on a ring where one is lost.

// fabricate returns a ring that no guest has, and a step after which its device has given back one chain more, until it
// keeps what is left.
func fabricate(avail, used uint16, keeps int) (r guestRing, step func()) {
	const usedArea = 64
	memory := make([]byte, 2*usedArea)
	r = guestRing{memory: bytes.NewReader(memory), size: 256, avail: 0, used: usedArea}
	binary.LittleEndian.PutUint16(memory[r.avail+ringIndex:], avail)
	put := func() { binary.LittleEndian.PutUint16(memory[r.used+ringIndex:], used) }
	put()
	return r, func() {
		if int(avail-used) > keeps {
			used++
			put()
		}
	}
}

func TestALostDescriptorIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		avail, used uint16
		keeps       int
		wantErr     string
	}{
		"all are back at once":                  {avail: 7, used: 7},
		"all come back":                         {avail: 7, used: 4},
		"all come back, and the indices wrap":   {avail: 2, used: 0xfffd},
		"one is lost":                           {avail: 7, used: 6, keeps: 1, wantErr: "1 of 256 descriptors are missing"},
		"one is lost where the indices wrapped": {avail: 0, used: 0xffff, keeps: 1, wantErr: "1 of 256 descriptors are missing"},
		"all are lost":                          {avail: 256, used: 0, keeps: 256, wantErr: "256 of 256 descriptors are missing"},
	} {
		t.Run(name, func(t *testing.T) {
			ring, step := fabricate(c.avail, c.used, c.keeps)
			if c.wantErr == "" {
				require.NoError(t, ring.drain(t, soon, step))
				return
			}
			require.EqualError(t, ring.drain(t, time.Millisecond, step), c.wantErr)
		})
	}
}
