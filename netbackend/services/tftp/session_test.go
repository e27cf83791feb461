package tftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// memory is a file that is open.
type memory struct {
	*bytes.Reader
	open *int
}

func (m memory) Close() error { *m.open--; return nil }

// bench is a session with a clock, and what it has sent.
type bench struct {
	*Session
	t     *testing.T
	files map[string][]byte
	open  int
	now   time.Time
	sent  [][]byte
}

// longFile has more blocks of 8 bytes than 16 bits count. Nothing changes it.
var longFile = pattern(530<<10 + 100)

func newBench(t *testing.T) *bench {
	b := &bench{t: t, now: time.Unix(1000, 0), files: map[string][]byte{
		"boot/small": []byte("small"), "empty": {}, "blocks": pattern(3 * 512), "long": longFile,
	}}
	b.Session = NewSession(func(name string) (File, error) {
		if name == "secret" {
			return nil, errors.New("permission denied: /srv/tftp/secret")
		}
		data, ok := b.files[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		b.open++
		return memory{bytes.NewReader(data), &b.open}, nil
	}, 1428, func(p []byte) { b.sent = append(b.sent, bytes.Clone(p)) })
	return b
}

func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7 >> 3)
	}
	return p
}

// says gives the session a datagram, and returns what it sends then.
func (b *bench) says(p []byte) [][]byte {
	b.sent = nil
	b.Datagram(p, b.now)
	return b.sent
}

// waits lets time pass until the session sends again, and returns what it sends.
func (b *bench) waits() [][]byte {
	b.sent = nil
	if d := b.Deadline(); !d.IsZero() {
		b.now = d
	}
	b.Timeout(b.now)
	return b.sent
}

// ask is a request for a file, with options and their values.
func ask(name string, options ...string) []byte {
	return []byte("\x00\x01" + strings.Join(append([]string{name, "octet"}, options...), "\x00") + "\x00")
}

func ack(n uint16) []byte { return binary.BigEndian.AppendUint16([]byte{0, opACK}, n) }

func data(n uint16, text string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{0, opData}, n), text...)
}

func oack(text string) []byte { return []byte("\x00\x06" + text) }

func failure(code byte, text string) []byte {
	return []byte("\x00\x05\x00" + string(code) + text + "\x00")
}

func TestEachRequestIsAnswered(t *testing.T) {
	blocks := string(pattern(512))
	for name, c := range map[string]struct {
		says []byte
		want []byte
	}{
		"a small file":               {ask("boot/small"), data(1, "small")},
		"from the root on":           {ask("/boot//./small"), data(1, "small")},
		"an empty file":              {ask("empty"), data(1, "")},
		"whole blocks":               {ask("blocks"), data(1, blocks)},
		"mode in any case":           {[]byte("\x00\x01boot/small\x00OcTet\x00"), data(1, "small")},
		"a size":                     {ask("blocks", "tsize", "0"), oack("tsize\x001536\x00")},
		"options in any case":        {ask("blocks", "BlkSize", "1000"), oack("blksize\x001000\x00")},
		"all options":                {ask("blocks", "tsize", "0", "blksize", "1024", "timeout", "3", "windowsize", "4"), oack("tsize\x001536\x00blksize\x001024\x00timeout\x003\x00windowsize\x004\x00")},
		"more than fits":             {ask("blocks", "blksize", "65464", "windowsize", "65535"), oack("blksize\x001428\x00windowsize\x0016\x00")},
		"an unknown option":          {ask("boot/small", "multicast", ""), data(1, "small")},
		"a wrong size of blocks":     {ask("boot/small", "blksize", "7"), data(1, "small")},
		"a negative size":            {ask("boot/small", "blksize", "-8"), data(1, "small")},
		"a size with a sign":         {ask("boot/small", "blksize", "+512"), data(1, "small")},
		"no window":                  {ask("boot/small", "windowsize", "0"), data(1, "small")},
		"an option twice":            {ask("blocks", "blksize", "100", "blksize", "200"), oack("blksize\x00100\x00")},
		"an option without a value":  {ask("boot/small", "blksize"), data(1, "small")},
		"nothing of that name":       {ask("boot/none"), failure(codeNotFound, "there is no such file: boot/none")},
		"nothing that can be read":   {ask("secret"), failure(codeAccess, "the file cannot be read: secret")},
		"out of the root":            {ask("boot/../../etc/passwd"), failure(codeAccess, "the file cannot be read: its name leads out of the directory of boot files")},
		"out of the root, otherwise": {ask(`..\..\etc\passwd`), failure(codeAccess, "the file cannot be read: its name has a character that is not taken")},
		"no name":                    {ask("/"), failure(codeAccess, "the file cannot be read: it has no name")},
		"a long name":                {ask(strings.Repeat("x", 256)), failure(codeAccess, "the file cannot be read: its name has 256 bytes, and 255 are the most")},
		"a name of a terminal":       {ask("\x1b[2J"), failure(codeAccess, "the file cannot be read: its name has a character that is not taken")},
		"netascii":                   {[]byte("\x00\x01boot/small\x00netascii\x00"), failure(codeIllegal, "the only mode is octet")},
		"writing":                    {[]byte("\x00\x02boot/small\x00octet\x00"), failure(codeAccess, "files can only be read here")},
		"no end of the mode":         {[]byte("\x00\x01boot/small\x00octet"), failure(codeIllegal, errIllegal.Error())},
		"no mode":                    {[]byte("\x00\x01boot/small\x00"), failure(codeIllegal, errIllegal.Error())},
		"nothing":                    {nil, failure(codeIllegal, errIllegal.Error())},
		"data":                       {data(1, "x"), failure(codeIllegal, errIllegal.Error())},
		"an unknown kind":            {[]byte("\x00\x07\x00\x00"), failure(codeIllegal, errIllegal.Error())},
		"an error":                   {failure(codeOther, "no"), nil},
		"an acknowledgement":         {ack(1), nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			got := b.says(c.says)
			if c.want == nil {
				require.Empty(t, got)
				return
			}
			require.Equal(t, []string{string(c.want)}, texts(got))
			require.Equal(t, c.want[1] == opData || c.want[1] == opOACK, b.Busy())
			b.Close()
			require.Zero(t, b.open, "files that stay open")
		})
	}
}

func texts(packets [][]byte) (all []string) {
	for _, p := range packets {
		all = append(all, string(p))
	}
	return all
}

func TestAFileOfWholeBlocksEndsWithAnEmptyOne(t *testing.T) {
	b := newBench(t)
	b.says(ask("blocks"))
	for n := range uint16(3) {
		require.NotEmpty(t, b.says(ack(n+1)))
	}
	require.Equal(t, texts([][]byte{data(4, "")}), texts(b.sent))
	require.True(t, b.Busy(), "until the client has it")
	require.Empty(t, b.says(ack(4)))
	require.False(t, b.Busy())
	require.Zero(t, b.open)
	require.Zero(t, b.Deadline())
}

// client is one that loses some of what is sent to it, and some of what it sends.
type client struct {
	block, window int
	got           []byte
	next          uint64 // the block that it wants
	since         int    // blocks since it has acknowledged
	gap           bool   // it has told that a block is missing
	done          bool
}

// takes returns what a client that was built by RFC 1350 and 7440 answers to a packet; nil for nothing.
func (c *client) takes(p []byte) []byte {
	switch p[1] {
	case opOACK:
		return ack(0)
	case opData:
		if binary.BigEndian.Uint16(p[2:]) != uint16(c.next) {
			if c.gap {
				return nil
			}
			c.since, c.gap = 0, true
			return ack(uint16(c.next - 1)) // what it has in order
		}
		c.gap = false
		c.next++
		c.since++
		c.got = append(c.got, p[headerLen:]...)
		c.done = len(p)-headerLen < c.block
		if c.done || c.since == c.window {
			c.since = 0
			return ack(uint16(c.next - 1))
		}
	}
	return nil
}

// Whatever is lost, the client gets the file, and no more than it must be is sent twice.
func TestAFileComesWholeOverALossyLink(t *testing.T) {
	for _, c := range []struct {
		options       []string
		block, window int
		lose          int // one packet of so many, in either direction; 0 for none
		most          int // packets that are sent for one of the file, in hundredths
	}{
		{nil, 512, 1, 0, 100},
		{[]string{"blksize", "1428"}, 1428, 1, 0, 101},
		{[]string{"blksize", "64", "windowsize", "16"}, 64, 16, 0, 101},
		{[]string{"blksize", "8"}, 8, 1, 0, 101}, // more blocks than 16 bits count
		{nil, 512, 1, 7, 150},
		{[]string{"windowsize", "8"}, 512, 8, 7, 300},
		{[]string{"windowsize", "16", "tsize", "0"}, 512, 16, 5, 500},
	} {
		t.Run(fmt.Sprint(c.options, " 1 of ", c.lose), func(t *testing.T) {
			b := newBench(t)
			cl := &client{block: c.block, window: c.window, next: 1}
			random, all := rand.New(rand.NewPCG(1, uint64(c.lose))), 0
			passes := func() bool { return c.lose == 0 || random.IntN(c.lose) != 0 }
			queue := [][]byte{ask("long", c.options...)} // to the session; the first is not lost
			for step := 0; !cl.done || b.Busy(); step++ {
				require.Less(t, step, 2_000_000)
				var out [][]byte
				if len(queue) == 0 {
					cl.gap = false // it tells again after a time
					out = b.waits()
					require.True(t, len(out) > 0 || cl.done, "nobody goes on")
				} else {
					p := queue[0]
					queue = queue[1:]
					if step > 0 && !passes() {
						continue
					}
					out = b.says(p)
				}
				for _, p := range out {
					if all++; !passes() {
						continue
					}
					if answer := cl.takes(p); answer != nil {
						queue = append(queue, answer)
					}
				}
				if cl.done && len(queue) == 0 && !b.Busy() {
					break
				}
			}
			require.True(t, bytes.Equal(b.files["long"], cl.got))
			require.LessOrEqual(t, all*100, c.most*(len(cl.got)/c.block+2))
			require.Zero(t, b.open)
		})
	}
}

func TestWhatIsNotAcknowledgedIsSentAgainSoOftenAndNoMore(t *testing.T) {
	for _, c := range []struct {
		options []string
		timeout time.Duration
		packets int
	}{{nil, time.Second, 1}, {[]string{"timeout", "9"}, 9 * time.Second, 1}} {
		b := newBench(t)
		first := b.says(ask("long", c.options...))
		for range maxTries - 1 {
			before := b.now
			require.Equal(t, texts(first), texts(b.waits()))
			require.Equal(t, c.timeout, b.now.Sub(before))
		}
		require.Empty(t, b.waits())
		require.False(t, b.Busy())
		require.Zero(t, b.open)
	}
}

func TestATimeoutThatComesEarlyDoesNothing(t *testing.T) {
	b := newBench(t)
	b.says(ask("long"))
	b.sent = nil
	b.Timeout(b.now.Add(time.Second - 1))
	require.Empty(t, b.sent)
}

// RFC 1123 section 4.2.3.1: who answers each acknowledgement that comes twice sends all of the rest twice.
func TestAnAcknowledgementThatComesTwiceIsNotAnswered(t *testing.T) {
	b := newBench(t)
	b.says(ask("long"))
	require.Len(t, b.says(ack(1)), 1)
	require.Empty(t, b.says(ack(1)))
	require.Empty(t, b.says(ack(0)))
	require.Empty(t, b.says(ack(3)), "of a block that was not sent")
	require.Len(t, b.says(ack(2)), 1)
}

func TestWithAWindowALostBlockIsSentAgainWithWhatFollows(t *testing.T) {
	b := newBench(t)
	b.says(ask("long", "windowsize", "4"))
	require.Len(t, b.says(ack(0)), 4)
	require.Len(t, b.says(ack(2)), 4, "it wants what follows (RFC 7440 section 4)")
	require.Equal(t, uint16(3), binary.BigEndian.Uint16(b.sent[0][2:]))
	first := texts(b.sent)
	require.Empty(t, b.says(ack(2)), "a client cannot have a window sent for each acknowledgement")
	require.Equal(t, first, texts(b.waits()))
}

func TestARequestThatComesAgainBeginsAnew(t *testing.T) {
	b := newBench(t)
	first := texts(b.says(ask("long", "blksize", "100")))
	require.Equal(t, first, texts(b.says(ask("long", "blksize", "100"))))
	require.Equal(t, 1, b.open)
	b.says(ack(0))
	require.Equal(t, first, texts(b.says(ask("long", "blksize", "100"))))
	require.Len(t, b.says(ask("blocks")), 1)
	require.Equal(t, 1, b.open)
}

func TestAClientThatGivesUpEndsTheTransfer(t *testing.T) {
	for _, p := range [][]byte{failure(codeOther, "aborted"), failure(codeOptions, "no")} {
		b := newBench(t)
		b.says(ask("long", "tsize", "0"))
		require.Empty(t, b.says(p), "an error is not answered")
		require.False(t, b.Busy())
		require.Zero(t, b.open)
	}
}

func TestAFileThatHasBecomeShorterIsToldOf(t *testing.T) {
	b := newBench(t)
	b.Session.open = func(string) (File, error) { return shrunk{memory{bytes.NewReader(pattern(700)), &b.open}}, nil }
	b.open = 1
	b.says(ask("any"))
	require.Equal(t, texts([][]byte{failure(codeOther, "the file has changed while it was sent")}), texts(b.says(ack(1))))
	require.False(t, b.Busy())
	require.Zero(t, b.open)
}

// shrunk was longer when it was opened.
type shrunk struct{ memory }

func (shrunk) Size() int64 { return 1000 }

func FuzzSession(f *testing.F) {
	for _, p := range [][]byte{ask("boot/small"), ask("long", "blksize", "8", "windowsize", "16"), ack(0), ack(1), data(1, "x"), failure(0, "")} {
		f.Add(append([]byte{byte(len(p))}, p...))
	}
	f.Fuzz(func(t *testing.T, all []byte) {
		b := newBench(t)
		for len(all) > 0 {
			n := min(int(all[0]), len(all)-1)
			p := all[1 : 1+n]
			all = all[1+n:]
			out := b.says(p)
			if n == 0 {
				out = b.waits()
			}
			if len(out) > maxWindow {
				t.Fatalf("%d packets for one", len(out))
			}
			for _, p := range out {
				if len(p) > headerLen+1428 {
					t.Fatalf("a packet of %d bytes", len(p))
				}
			}
			if b.open > 1 || b.Busy() != (b.open == 1) || b.Busy() != !b.Deadline().IsZero() {
				t.Fatalf("%d files are open, busy %t, deadline %v", b.open, b.Busy(), b.Deadline())
			}
		}
		b.Close()
		if b.open != 0 {
			t.Fatal("a file stays open")
		}
	})
}
