package virtqueue_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// fuzzMemory is small, so that random addresses hit it and its borders.
const fuzzMemory = 4096

// FuzzQueue runs a device on a ring whose memory is anything. The input is a byte of options, a byte of base, the number
// of 8-byte words of the memory image, the image, and then steps of the device and the guest.
func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 0, 0, 'f', 8, 'u', 8, 'p'})
	for _, seed := range fuzzSeeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 3 {
			return
		}
		z := newFuzzer(t, data[0], data[1])
		image := data[3:min(len(data), 3+8*int(data[2]))]
		copy(z.m.Bytes(vqtest.BaseGPA, fuzzMemory), image)
		z.start()
		z.run(data[3+len(image):])
	})
}

// fuzzSeeds are rings with a chain of each of vqtest's cases, followed by a plain turn.
func fuzzSeeds() (seeds [][]byte) {
	turn := []byte{'k', 'f', 9, 'h', 'u', 1, 'p', 'f', 9, 'r', 'f', 9, 'm', 'f', 9, 'u', 9, 'p', 'K', 'h', 'b', 1, 'c', 'f', 9}
	for _, c := range vqtest.Cases(virtqueue.FromGuest) {
		d := vqtest.NewCaseDriver(vqtest.Heap, vqtest.Options{Indirect: true})
		c.Place(d)
		d.Publish()
		image := d.Memory().Bytes(vqtest.BaseGPA, 512)
		seeds = append(seeds, append(append([]byte{3 | 1<<4, 0, byte(len(image) / 8)}, image...), turn...))
	}
	return seeds
}

type fuzzer struct {
	t     *testing.T
	m     *vqtest.Memory
	d     *vqtest.Driver
	q     *virtqueue.Queue
	cfg   virtqueue.Config
	table *guestmem.Table
}

func newFuzzer(t *testing.T, options, base byte) *fuzzer {
	m := vqtest.NewSplitMemory(vqtest.Heap, fuzzMemory, fuzzMemory)
	d := vqtest.NewDriver(m, vqtest.Options{
		Size:     1 << (options & 7 % 6),
		EventIdx: options&8 != 0,
		Indirect: options&16 != 0,
		OddAvail: options&32 != 0,
		Base:     uint16(int8(base)),
	})
	z := &fuzzer{t: t, m: m, d: d, table: m.Table(), cfg: d.Layout()}
	z.cfg.Dir = virtqueue.Direction(options >> 6 & 1)
	return z
}

func (z *fuzzer) start() {
	q, err := virtqueue.New(z.table, z.cfg)
	require.NoError(z.t, err, "what is in the memory cannot make the start fail")
	z.q = q
}

// run does what the steps say. Whatever the guest did, the device's calls must keep their promises.
func (z *fuzzer) run(steps []byte) {
	next := func() (b byte) {
		if len(steps) > 0 {
			b, steps = steps[0], steps[1:]
		}
		return b
	}
	for len(steps) > 0 {
		switch next() {
		case 'f':
			z.fetch(int(next()))
		case 'u':
			for range min(int(next()), len(z.q.Pending())) {
				z.q.Use(uint32(next()))
			}
		case 'p':
			before := z.q.Stats().Flushes
			z.q.Flush()
			if z.q.Stats().Flushes != before {
				require.Equal(z.t, z.q.State().Avail, z.d.UsedIdx())
			}
		case 'h':
			z.q.HasAvail()
		case 'k':
			z.q.DisableKicks()
		case 'K':
			z.q.EnableKicks()
		case 'r':
			z.q.Rewind()
		case 'm':
			z.table = z.m.NewTable(nil)
			require.NoError(z.t, z.q.SetMemory(z.table))
		case 'c':
			z.q.Recheck()
			z.requireAvailable()
		case 'b': // the guest takes entries back
			z.d.TakeBack(int(next()) % 64)
		case 'w': // the guest writes
			at := guestmem.GPA(next()) | guestmem.GPA(next())<<8
			z.m.Bytes(vqtest.BaseGPA+at%fuzzMemory, 1)[0] = next()
		}
	}
}

func (z *fuzzer) fetch(limit int) {
	before := z.q.Pending()
	at := z.q.State().Avail + uint16(len(before))
	had, withdrawals := len(before), z.q.Withdrawals()
	chains := z.q.Fetch(limit)
	if z.q.Err() != nil {
		require.Empty(z.t, chains)
		return
	}
	require.LessOrEqual(z.t, len(chains), limit)
	z.requireAvailable()
	if z.q.Withdrawals() != withdrawals {
		at, had = z.q.State().Avail, 0
	}
	for i := had; i < len(chains); i++ {
		z.compare(chains[i], z.d.Entry(at+uint16(i-had)))
	}
}

// compare checks a chain against the reference decoder, which reads the ring as it is now: nothing else writes it.
func (z *fuzzer) compare(c virtqueue.Chain, head uint16) {
	want, ok := z.d.Walk(z.cfg.Dir, head)
	require.Equal(z.t, ok, len(c.Iov) > 0)
	if !ok {
		require.Zero(z.t, c.Len)
		return
	}
	got, inside := z.m.Resolve(z.table, c.Iov)
	require.True(z.t, inside, "a piece is not guest memory")
	require.Equal(z.t, vqtest.Join(want), got)
	require.Equal(z.t, total(want), c.Len)
}

// requireAvailable checks that no chain is pending that is not available any more.
func (z *fuzzer) requireAvailable() {
	if z.q.Err() != nil {
		return
	}
	avail := z.d.AvailIdx() - z.q.State().Avail
	if avail > z.cfg.Size {
		avail = 0 // the index is behind what was used
	}
	require.LessOrEqual(z.t, len(z.q.Pending()), int(avail))
}
