package drops_test

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/drops"
)

// note tells a log of a drop as its owner does.
func note(l *drops.Log, now int64, reason string) {
	if l.Takes(now) {
		l.Add(drops.Drop{Time: now, Reason: reason})
	}
}

func TestALogKeepsSomeOfASecondAndNumbersTheOthers(t *testing.T) {
	const second = int64(time.Second)
	var l drops.Log
	for i := range int64(1000) {
		note(&l, 5*second+i, "flood")
	}
	note(&l, 6*second+1000, "after")
	last := l.Last()
	require.Len(t, last, drops.PerSecond+1)
	require.Zero(t, last[0].Left)
	require.Equal(t, drops.Drop{Time: 6*second + 1000, Reason: "after", Left: 1000 - drops.PerSecond}, last[drops.PerSecond])
}

func TestALogKeepsTheLast(t *testing.T) {
	var l drops.Log
	require.Empty(t, l.Last())
	const n = 3*drops.Kept + 5
	for i := range int64(n) {
		note(&l, i*int64(time.Second), "seldom")
	}
	last := l.Last()
	require.Len(t, last, drops.Kept)
	for i, d := range last {
		require.EqualValues(t, int64(n-drops.Kept+i)*int64(time.Second), d.Time)
	}
}

func TestWhatIsSkippedIsNumbered(t *testing.T) {
	var l drops.Log
	l.Skip(7)
	note(&l, 1, "a")
	require.EqualValues(t, 7, l.Last()[0].Left)
}

// However many read, the owner goes on, and each of its drops is kept or numbered.
func TestReadersHoldNobodyUp(t *testing.T) {
	var l drops.Log
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					l.Last()
				}
			}
		})
	}
	const n = 20_000
	for i := range int64(n) {
		note(&l, i*int64(time.Second), "drop")
	}
	close(stop)
	readers.Wait()
	note(&l, n*int64(time.Second), "last")
	last := l.Last()
	require.Equal(t, "last", last[len(last)-1].Reason)
	for i := 1; i < len(last); i++ {
		require.EqualValues(t, last[i].Time-last[i-1].Time, (int64(last[i].Left)+1)*int64(time.Second), "none is lost without a number")
	}
}

func TestAFloodIsNumberedWithoutAnAllocation(t *testing.T) {
	var l drops.Log
	require.Zero(t, testing.AllocsPerRun(1000, func() { note(&l, 7, "flood") }))
}

// frame is one of Ethernet.
func frame(etherType uint16, packet []byte) []byte {
	return append(binary.BigEndian.AppendUint16(make([]byte, 12), etherType), packet...)
}

// ipv4 is a packet with options of a length, and ports.
func ipv4(options int, offset uint16, proto uint8) []byte {
	b := make([]byte, 20+options)
	b[0], b[9] = 0x40|uint8(5+options/4), proto
	binary.BigEndian.PutUint16(b[6:], offset)
	copy(b[12:], []byte{10, 0, 2, 15, 192, 0, 2, 1})
	return append(b, 0x9c, 0x40, 0, 80, 0, 0, 0, 0)
}

func TestFramesAreReadAsFarAsTheyGo(t *testing.T) {
	guest, web := netip.MustParseAddr("10.0.2.15"), netip.MustParseAddr("192.0.2.1")
	port := func(a netip.Addr, p uint16) netip.AddrPort { return netip.AddrPortFrom(a, p) }
	guest6, web6 := netip.MustParseAddr("fd00::15"), netip.MustParseAddr("2001:db8::1")
	v6 := make([]byte, 40)
	v6[6] = 17
	copy(v6[8:], guest6.AsSlice())
	copy(v6[24:], web6.AsSlice())
	for name, c := range map[string]struct {
		head []byte
		want drops.Frame
	}{
		"nothing":           {nil, drops.Frame{}},
		"half of Ethernet":  {make([]byte, 13), drops.Frame{}},
		"another protocol":  {frame(0x88cc, nil), drops.Frame{EtherType: 0x88cc}},
		"tcp":               {frame(0x0800, ipv4(0, 0, 6)), drops.Frame{EtherType: 0x0800, Proto: 6, Src: port(guest, 40000), Dst: port(web, 80)}},
		"options":           {frame(0x0800, ipv4(40, 0, 17)), drops.Frame{EtherType: 0x0800, Proto: 17, Src: port(guest, 40000), Dst: port(web, 80)}},
		"the first of some": {frame(0x0800, ipv4(0, 0x2000, 17)), drops.Frame{EtherType: 0x0800, Proto: 17, Src: port(guest, 40000), Dst: port(web, 80)}},
		"a later fragment":  {frame(0x0800, ipv4(0, 5, 17)), drops.Frame{EtherType: 0x0800, Proto: 17, Src: port(guest, 0), Dst: port(web, 0)}},
		"no ports":          {frame(0x0800, ipv4(0, 0, 47)), drops.Frame{EtherType: 0x0800, Proto: 47, Src: port(guest, 0), Dst: port(web, 0)}},
		"half a header":     {frame(0x0800, ipv4(0, 0, 6)[:19]), drops.Frame{EtherType: 0x0800}},
		"options that lie":  {frame(0x0800, append([]byte{0x4f}, ipv4(0, 0, 6)[1:]...)), drops.Frame{EtherType: 0x0800, Proto: 6, Src: port(guest, 0), Dst: port(web, 0)}},
		"IPv6":              {frame(0x86dd, append(v6, 0x9c, 0x40, 0, 80)), drops.Frame{EtherType: 0x86dd, Proto: 17, Src: port(guest6, 40000), Dst: port(web6, 80)}},
		"half of IPv6":      {frame(0x86dd, v6[:39]), drops.Frame{EtherType: 0x86dd}},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Length = 1000
			require.Equal(t, c.want, drops.ParseFrame(c.head, 1000))
		})
	}
}
