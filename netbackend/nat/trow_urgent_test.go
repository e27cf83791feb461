package nat_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// Streams with urgent bytes are written here as text, in which an upper-case letter is urgent.

// socket is a stream socket of the host's.
type socket interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// say writes text to c.
func say(t *testing.T, c socket, text string) {
	t.Helper()
	for len(text) > 0 {
		ordinary := strings.IndexFunc(text, isUrgent)
		if ordinary < 0 {
			ordinary = len(text)
		}
		if ordinary > 0 {
			_, err := io.WriteString(c, text[:ordinary])
			require.NoError(t, err)
			text = text[ordinary:]
			continue
		}
		sayUrgent(t, c, text[:1])
		text = text[1:]
	}
}

func isUrgent(r rune) bool { return r >= 'A' && r <= 'Z' }

// sayUrgent sends text, the last byte of which is urgent.
func sayUrgent(t *testing.T, c socket, text string) {
	t.Helper()
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Write(func(fd uintptr) bool {
		err = unix.Sendto(int(fd), []byte(text), unix.MSG_OOB|unix.MSG_NOSIGNAL, nil)
		return err != unix.EAGAIN
	}))
	require.NoError(t, err)
}

// inLine lets c read urgent bytes at their place.
func inLine[S socket](t *testing.T, c S) S {
	t.Helper()
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
	}))
	require.NoError(t, err)
	return c
}

// heard is what came of a stream, with where the marks were.
type heard struct {
	text  string
	marks []int
}

// hear reads n bytes from c, which is in line, and where the mark was.
func (h *heard) hear(c socket, n int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	b := make([]byte, n)
	for got := 0; got < n && err == nil; {
		readErr := raw.Read(func(fd uintptr) bool {
			var m int
			if m, _, err = unix.Recvfrom(int(fd), b[got:got+1], unix.MSG_PEEK); err == unix.EAGAIN {
				err = nil
				return false
			}
			mark, _ := unix.IoctlGetUint32(int(fd), unix.SIOCATMARK) // now that the byte is there, its mark is known
			if m > 0 {
				m, _, err = unix.Recvfrom(int(fd), b[got:], 0)
			}
			if err == unix.EAGAIN || err == unix.EINTR { // of a signal
				err = nil
				return true
			}
			if err == nil && m == 0 {
				err = io.ErrUnexpectedEOF
			}
			if mark != 0 && m > 0 {
				h.marks = append(h.marks, len(h.text)+got)
			}
			got += max(m, 0)
			return true
		})
		if readErr != nil {
			return readErr
		}
	}
	h.text += string(b)
	return err
}

// hears has c read n bytes more.
func (b *bench) hears(h *heard, c socket, n int) {
	b.t.Helper()
	require.NoError(b.t, await(b, fmt.Sprintf("the host has read %d bytes", n), func() error { return h.hear(c, n) }))
}

// heardBy is what the guest got by c. A mark counts once, however many segments tell of it, but not if the byte came without.
func heardBy(t *testing.T, c *porttest.TCP) (h heard) {
	h.text = string(c.Received())
	told := map[int]bool{}
	for i := range c.Segments {
		s := &c.Segments[i]
		if !s.Has(porttest.URG) {
			require.Zero(t, s.Urgent, "a pointer without the flag")
			continue
		}
		require.NotZero(t, s.Urgent)
		mark := int(s.Seq + uint32(s.Urgent) - 1 - (c.IRS + 1))
		if !told[mark] {
			told[mark] = true
			h.marks = append(h.marks, mark)
		}
	}
	return h
}

// marksOf returns where the urgent bytes of text are.
func marksOf(text string) (marks []int) {
	for i, r := range text {
		if isUrgent(r) {
			marks = append(marks, i)
		}
	}
	return marks
}

// send sends text as a kernel would: an urgent byte is the last of its segment.
func send(c *porttest.TCP, text string) {
	for len(text) > 0 {
		n := strings.IndexFunc(text, isUrgent) + 1
		s := c.Segment(porttest.ACK|porttest.PSH, []byte(text))
		if n > 0 {
			s.Payload = s.Payload[:n]
			s.Flags |= porttest.URG
			s.Urgent = uint16(n)
		}
		c.SendNext(s)
		text = text[len(s.Payload):]
	}
}

func TestT57UrgentBytesOfTheHostComeAtTheirPlaceAndWithTheirMark(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		for name, parts := range map[string][]string{
			"in the middle":           {"abcXdef"},
			"first":                   {"Xabc"},
			"last":                    {"abcX"},
			"alone":                   {"X"},
			"two in a row":            {"abc", "X", "Y", "def"},
			"after each other":        {"aX", "bY", "cZ", "d"},
			"the second before none":  {"X", "Y"},
			"in front of much":        {"X" + strings.Repeat("much more", 3000)},
			"behind much":             {strings.Repeat("much more", 3000) + "Xy"},
			"behind more than 64 KiB": {strings.Repeat("much more", 9000) + "Xy"},
		} {
			t.Run(name, func(t *testing.T) {
				b := newBench(t, setup{config: config})
				c, host := b.connect(wide)
				text := ""
				for _, part := range parts {
					say(t, host, part)
					text += part
					c.WaitFor(len(text))
				}
				require.Equal(t, heard{text, marksOf(text)}, heardBy(t, c))
				c.Send([]byte("answer"))
				require.Equal(t, "answer", string(b.readSome(host, 6)))
				require.NoError(t, host.CloseWrite())
				b.Until("the end comes", c.Ended)
				c.Close()
				b.Settle()
				require.Empty(t, b.port.Snapshot(b.Now()).Flows)
				require.Empty(t, b.endings())
			})
		}
	})
}

// A guest that does not read gets all of it later, and of the marks the newest, which is what any kernel keeps.
func TestT57OfSeveralMarksTheNewestCounts(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config})
		c, host := b.connect()
		c.Window = 0
		c.SendAck()
		b.Settle()
		const text = "abcXdefYghi"
		say(t, host, text)
		b.Settle()
		require.Empty(t, c.Received())
		c.Window = 65535
		c.ManualAck = hasPeekOffset(config) // without, what stands behind the mark waits until all before it was acknowledged
		c.SendAck()
		c.WaitFor(len(text))
		require.Equal(t, heard{text, []int{7}}, heardBy(t, c))
	})
}

// Nothing but the mark says that there is more, and nothing says that there is not.
func TestT57AMarkNeitherHoldsAStreamUpNorEndsIt(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		for _, text := range []string{"abcXdef", "Xabc", "abcX", "X", "abcXYdef"} {
			for _, manual := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, slow guest %v", text, manual), func(t *testing.T) {
					b := newBench(t, setup{config: config})
					c, host := b.connect(porttest.TCPOptions{ManualAck: manual})
					say(t, host, text)
					require.NoError(t, host.Close())
					if manual {
						b.Settle()
						require.False(t, c.Ended(), "not all was acknowledged")
						c.ManualAck = false
						c.SendAck()
					}
					b.Until("the end comes", c.Ended)
					require.Equal(t, text, string(c.Received()))
					require.Equal(t, porttest.Open, c.State, "it was no reset")
				})
			}
		}
	})
}

// Every segment up to the mark tells of it, so that the guest knows in time; none behind it does. They are no longer than the
// guest's links: who cuts one would repeat the pointer, which is right in the first piece only.
func TestT58TheMarkIsAnnounced(t *testing.T) {
	for name, guest := range guests() {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{guest: guest})
			c, host := b.connect()
			c.Window = 0
			c.SendAck()
			b.Settle()
			text := strings.Repeat("z", 20_000) + "X" + strings.Repeat("z", 20_000)
			say(t, host, text)
			b.Settle()
			from := len(c.Segments)
			c.Window = 65535
			c.SendAck()
			c.WaitFor(len(text))
			for _, s := range c.Segments[from:] {
				at := int(s.Seq - (c.IRS + 1))
				if at < 20_000 {
					require.True(t, s.Has(porttest.URG), "%v", s)
					require.Equal(t, 20_001-at, int(s.Urgent))
					require.Zero(t, s.GSOSize, "%v", s)
				}
				require.Equal(t, at <= 20_000, s.Has(porttest.URG), "%v", s)
			}
			from = len(c.Segments)
			say(t, host, text[:20_000])
			c.WaitFor(len(text) + 20_000)
			long := slices.ContainsFunc(c.Segments[from:], func(s porttest.Segment) bool { return s.GSOSize != 0 })
			require.True(t, long || name != "all offloads", "frames of many segments behind the mark")
		})
	}
}

// A program that does not read any more is told all the same: that is what urgent data are for.
func TestT58AProbeOfAClosedWindowTellsOfTheMark(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config})
		c, host := b.connect()
		c.Window = 0
		c.SendAck()
		b.Settle()
		say(t, host, "abcXdef")
		from := len(c.Segments)
		b.Run(5 * time.Second)
		told := false
		for _, s := range c.Segments[from:] {
			if s.Has(porttest.URG) && s.Seq == c.RcvNxt {
				told = true
				require.EqualValues(t, 4, s.Urgent)
			}
		}
		require.True(t, told, "a segment that a kernel would look at has told")
	})
}

func TestT58TheMarkIsRepeatedWithItsByte(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		for _, sacks := range []bool{false, true} {
			for _, lost := range []int{1, 2, 4} {
				t.Run(fmt.Sprintf("%d lost, SACK %v", lost, sacks), func(t *testing.T) {
					b := newBench(t, setup{config: config, guest: porttest.Options{MTU: 576}})
					c, host := b.connect(porttest.TCPOptions{SACK: sacks})
					const text = "abcXdef"
					n := 0
					marked := 0
					b.Drop = func(d porttest.Direction, s *porttest.Segment) bool {
						if d != porttest.ToGuest || len(s.Payload) == 0 {
							return false
						}
						if n++; n <= lost {
							return true
						}
						if s.Seq == c.IRS+1+3 && s.Has(porttest.URG) {
							marked++
						}
						return false
					}
					say(t, host, text)
					b.Skip("all has come", func() bool { return len(c.Received()) == len(text) })
					require.Equal(t, heard{text, []int{3}}, heardBy(t, c))
					require.NotZero(t, marked, "the byte itself came with the flag")
				})
			}
		}
	})
}

func TestT59UrgentBytesOfTheGuestReachTheHostAtTheirPlaceAndWithTheirMark(t *testing.T) {
	for name, parts := range map[string][]string{
		"in the middle":    {"abcXdef"},
		"first":            {"Xabc"},
		"last":             {"abcX"},
		"alone":            {"X"},
		"two in a row":     {"abc", "X", "Y", "def"},
		"after each other": {"aX", "bY", "cZ", "d"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{})
			c, host := b.connect()
			inLine(t, host)
			text := ""
			var h heard
			for _, part := range parts {
				send(c, part)
				b.hears(&h, host, len(part))
				text += part
			}
			require.Equal(t, heard{text, marksOf(text)}, h)
			c.Close()
			require.NoError(t, b.readAll(host).err)
		})
	}
}

// A program of the host's that does not read in line gets the byte apart, as it would of any peer.
func TestT59AnUrgentByteOfTheGuestIsReadOutOfBand(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	send(c, "abcXdef")
	require.Equal(t, "abc", string(b.readSome(host, 3)))
	b.Settle()
	raw, err := host.SyscallConn()
	require.NoError(t, err)
	urgent := make([]byte, 2)
	var n int
	require.NoError(t, raw.Control(func(fd uintptr) { n, _, err = unix.Recvfrom(int(fd), urgent, unix.MSG_OOB) }))
	require.NoError(t, err)
	require.Equal(t, "X", string(urgent[:n]))
	require.Equal(t, "def", string(b.readSome(host, 3)))
}

// What the pointer says is taken as Linux takes it, wherever it points and in whatever segment it stands.
func TestT60PointersOfTheGuestMeanWhatTheyMeanToAKernel(t *testing.T) {
	type part struct {
		text    string
		urgent  int // pointer, -1 for no flag
		further int // sequence number, from where it would be
		lost    bool
	}
	for name, c := range map[string]struct {
		parts []part
		text  string
		marks []int
	}{
		"0":                                 {[]part{{"abc", 0, 0, false}}, "abc", []int{0}},
		"the first byte":                    {[]part{{"abc", 1, 0, false}}, "abc", []int{0}},
		"the last byte":                     {[]part{{"abc", 3, 0, false}}, "abc", []int{2}},
		"the byte behind":                   {[]part{{"abc", 4, 0, false}, {"def", -1, 0, false}}, "abcdef", []int{3}},
		"far behind":                        {[]part{{"abc", 6, 0, false}, {"def", -1, 0, false}, {"ghi", -1, 0, false}}, "abcdefghi", []int{5}},
		"farther than anything":             {[]part{{"abc", 65535, 0, false}, {"def", -1, 0, false}}, "abcdef", nil},
		"without data":                      {[]part{{"", 2, 0, false}, {"abc", -1, 0, false}}, "abc", []int{1}},
		"without data, at nothing":          {[]part{{"abc", -1, 0, false}, {"", 0, 0, false}, {"def", -1, 0, false}}, "abcdef", []int{3}},
		"what was taken":                    {[]part{{"abc", -1, 0, false}, {"bc", 1, -2, false}, {"def", -1, 0, false}}, "abcdef", nil},
		"an old segment":                    {[]part{{"abc", -1, 0, false}, {"a", 5, -3, false}, {"def", -1, 0, false}}, "abcdef", nil},
		"repeated":                          {[]part{{"abc", 2, 0, false}, {"abc", 2, -3, false}, {"d", -1, 0, false}}, "abcd", []int{1}},
		"repeated, and more":                {[]part{{"abc", -1, 0, false}, {"abcdef", 5, -3, false}}, "abcdef", []int{4}},
		"an older one after a newer one":    {[]part{{"", 3, 0, false}, {"", 1, 0, false}, {"abc", -1, 0, false}}, "abc", []int{2}},
		"a newer one in place of an older":  {[]part{{"", 1, 0, false}, {"", 3, 0, false}, {"abc", -1, 0, false}}, "abc", []int{2}},
		"before its time":                   {[]part{{"def", 2, 3, false}, {"abc", -1, 0, false}, {"def", -1, 0, false}}, "abcdef", []int{4}},
		"of which only the data was missed": {[]part{{"abc", 2, 0, true}, {"abc", 2, 0, false}}, "abc", []int{1}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{})
			guest, host := b.connect()
			inLine(t, host)
			var h heard
			for _, p := range c.parts {
				s := guest.Segment(porttest.ACK|porttest.PSH, []byte(p.text))
				if p.urgent >= 0 {
					s.Flags |= porttest.URG
					s.Urgent = uint16(p.urgent)
				}
				s.Seq += uint32(int32(p.further))
				switch {
				case p.lost:
				case int32(s.Seq+s.Len()-guest.SndNxt) < 0, p.further > 0:
					guest.SendSegment(s)
				default:
					guest.SendNext(s)
				}
				b.Settle()
			}
			b.hears(&h, host, len(c.text))
			require.Equal(t, heard{c.text, c.marks}, h)
			guest.Send([]byte("."))
			b.hears(&h, host, 1)
			require.Equal(t, c.text+".", h.text)
		})
	}
}

func TestT60URGInAHandshakeAndInAFrameOfManySegments(t *testing.T) {
	mark := func(flags header.TCPFlags, pointer uint16) func(d porttest.Direction, s *porttest.Segment) bool {
		return func(d porttest.Direction, s *porttest.Segment) bool {
			if d == porttest.FromGuest && s.Flags == flags {
				s.Flags |= porttest.URG
				s.Urgent = pointer
			}
			return false
		}
	}
	t.Run("a SYN", func(t *testing.T) { // which the kernel does not look at so closely
		b := newBench(t, setup{})
		b.Drop = mark(porttest.SYN, 2)
		c, host := b.connect()
		c.Send([]byte("abc"))
		var h heard
		b.hears(&h, inLine(t, host), 3)
		require.Equal(t, heard{"abc", nil}, h)
	})
	t.Run("the answer to a SYN", func(t *testing.T) {
		b, dial := newForward(t, setup{})
		b.Drop = mark(porttest.SYN|porttest.ACK, 3)
		l := b.Listen(80)
		client := inLine(t, dial())
		l.Accept().Send([]byte("abc"))
		var h heard
		b.hears(&h, client, 3)
		require.Equal(t, heard{"abc", []int{1}}, h)
	})
	t.Run("the last of the handshake", func(t *testing.T) {
		b := newBench(t, setup{})
		c, host := b.connect()
		s := c.Segment(porttest.ACK|porttest.URG, nil)
		s.Urgent = 2
		c.SendSegment(s)
		c.Send([]byte("abc"))
		var h heard
		b.hears(&h, inLine(t, host), 3)
		require.Equal(t, heard{"abc", []int{1}}, h)
	})
	t.Run("one frame", func(t *testing.T) {
		b := newBench(t, setup{guest: porttest.Options{Features: vnet.FeatureVersion1 | vnet.FeatureCSum | vnet.FeatureHostTSO4}})
		c, host := b.connect()
		inLine(t, host)
		var h heard
		for _, pointer := range []int{1, 1461, 5000, 5001} {
			before := len(h.text)
			s := c.Segment(porttest.ACK|porttest.PSH|porttest.URG, noise(5000))
			s.Urgent, s.GSOSize = uint16(pointer), 1460
			c.SendNext(s)
			b.hears(&h, host, 5000)
			if pointer > 5000 {
				require.Len(t, h.marks, 3)
				continue
			}
			require.Equal(t, before+pointer-1, h.marks[len(h.marks)-1])
		}
		c.Send([]byte("."))
		b.hears(&h, host, 1)
		require.Equal(t, 20_000, h.marks[3])
		require.Equal(t, strings.Repeat(string(noise(5000)), 4)+".", h.text)
	})
}

// What a window that is closed does not let in, the guest repeats, with the mark.
func TestT60AMarkWaitsForAHostThatDoesNotRead(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	require.NoError(t, inLine(t, host).SetReadBuffer(64<<10))
	c.Send(noise(6 << 20))
	b.Settle()
	c.Silent = true
	taken := int(c.SndUna - (c.ISS + 1))
	require.Zero(t, c.SndWnd)
	c.SndNxt = c.SndUna
	early := c.Segment(porttest.ACK|porttest.URG, []byte("abcX"))
	early.Urgent = 4
	for range 3 {
		c.SendSegment(early)
		b.Settle()
	}
	var h heard
	b.hears(&h, host, taken)
	require.True(t, string(noise(6 << 20)[:taken]) == h.text, "the data differs")
	require.Empty(t, h.marks)
	b.Until("the window opens", func() bool { return c.SndWnd > 0 })
	send(c, "abcXdef")
	b.hears(&h, host, 7)
	require.Equal(t, "abcXdef", h.text[taken:])
	require.Equal(t, []int{taken + 3}, h.marks)
}

func TestT61SocketsOfEveryOriginTakeAndGiveUrgentBytes(t *testing.T) {
	const text = "abcXdefYg"
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		talk := func(t *testing.T, b *bench, c *porttest.TCP, client socket, lead string) {
			inLine(t, client)
			said := lead
			for _, part := range []string{"abcX", "defYg"} {
				say(t, client, part)
				said += part
				c.WaitFor(len(said))
			}
			marks := marksOf(text)
			for i := range marks {
				marks[i] += len(lead)
			}
			require.Equal(t, heard{said, marks}, heardBy(t, c))
			var h heard
			for _, part := range []string{"abcX", "defYg"} {
				send(c, part)
				b.hears(&h, client, len(part))
			}
			require.Equal(t, heard{text, marksOf(text)}, h)
			require.NoError(t, client.CloseWrite())
			b.Until("the end comes", c.Ended)
		}
		t.Run("of the guest", func(t *testing.T) {
			b := newBench(t, setup{config: config})
			c, host := b.connect()
			talk(t, b, c, host, "")
		})
		t.Run("of a forward", func(t *testing.T) {
			b, dial := newForward(t, setup{config: config})
			l := b.Listen(80)
			client := dial()
			talk(t, b, l.Accept(), client, "")
		})
		t.Run("of a unix socket", func(t *testing.T) {
			b, path, guest := newUnixForward(t, config)
			client, c := b.call(path, guest)
			talk(t, b, c, client, "")
		})
		t.Run("behind a header that is taken", func(t *testing.T) {
			b, dial := newProxied(t, "accept-proxy:", setup{config: config})
			l := b.Listen(80)
			client := dial()
			_, err := io.WriteString(client, named)
			require.NoError(t, err)
			talk(t, b, l.Accept(), client, "")
		})
		t.Run("behind a header that is given, and the byte is there first", func(t *testing.T) {
			b, dial := newProxied(t, "send-proxy:", setup{config: config})
			l := b.Listen(80)
			l.Mute = true
			client := dial()
			say(t, client, text)
			b.Settle()
			l.Mute = false
			b.Skip("the SYN is repeated", func() bool { return len(l.Pending()) == 1 })
			c := l.Accept()
			lead := string(of(1, client))
			c.WaitFor(len(lead + text))
			require.Equal(t, heard{lead + text, []int{len(lead) + 7}}, heardBy(t, c))
		})
		t.Run("behind a header that is given", func(t *testing.T) {
			b, dial := newProxied(t, "send-proxy:", setup{config: config})
			l := b.Listen(80)
			client := dial()
			c := l.Accept()
			talk(t, b, c, client, string(of(1, client)))
		})
	})
}

// What a client says before anybody listens to it stays whole: the kernel would leave the first urgent byte out.
func TestT61UrgentBytesOfAClientThatNobodyHasTakenYetStay(t *testing.T) {
	b, dial := newForward(t, setup{})
	l := b.Listen(80)
	client := dial()
	say(t, client, "XYabcZ")
	c := l.Accept()
	c.WaitFor(6)
	require.Equal(t, heard{"XYabcZ", []int{5}}, heardBy(t, c))
}

func TestT61AHeaderMayHaveAnUrgentByteInside(t *testing.T) {
	unix := filepath.Join(t.TempDir(), "web.sock")
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		for _, at := range []int{1, 2, 20, len(named) - 1, len(named), len(named) + 1, len(named) + 3} {
			for _, overUnix := range []bool{false, true} {
				t.Run(fmt.Sprintf("byte %d, unix %v", at, overUnix), func(t *testing.T) {
					b, client := newProxyClient(t, unix, overUnix, config)
					l := b.Listen(80)
					text := named + "hello"
					sayUrgent(t, client, text[:at])
					b.Settle()
					_, err := io.WriteString(client, text[at:])
					if !hasPeekOffset(config) && at > 1 && at <= len(named) {
						b.Until("it is refused", func() bool { return b.endings()["ended_bad_proxy_header"] == 1 })
						require.Empty(t, l.Pending())
						return
					}
					require.NoError(t, err)
					c := l.Accept()
					require.Equal(t, "192.0.2.7:40000", c.Remote.String())
					c.WaitFor(5)
					want := heard{text: "hello"}
					if at > len(named) {
						want.marks = []int{at - len(named) - 1}
					}
					require.Equal(t, want, heardBy(t, c))
				})
			}
		}
	})
}

func hasPeekOffset(config func(*nat.Config)) bool {
	cfg := nat.DefaultConfig()
	config(&cfg)
	return cfg.PeekOffset
}

// newProxyClient is a client of a forward that takes headers.
func newProxyClient(t *testing.T, path string, overUnix bool, config func(*nat.Config)) (*bench, socket) {
	if !overUnix {
		b, dial := newProxied(t, "accept-proxy:", setup{config: config})
		return b, dial()
	}
	b := newBench(t, setup{config: func(c *nat.Config) {
		config(c)
		f, err := spec.ParseForward("accept-proxy:unix:" + path + ":80")
		require.NoError(t, err)
		c.Forwards = append(c.Forwards, f)
	}})
	b.Resolve()
	client, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return b, client
}

// File descriptors of a unix client end a look at the queue as a mark does. They are none.
func TestT61FileDescriptorsAreNoMark(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b, path, guest := newUnixForward(t, config)
		client, c := b.call(path, guest)
		for round, last := range []string{"ghi", "ghXi"} {
			c.Window = 0
			c.SendAck()
			b.Settle()
			say(t, client, "abc")
			_, _, err := client.WriteMsgUnix([]byte("def"), unix.UnixRights(0), nil)
			require.NoError(t, err)
			say(t, client, last)
			b.Settle()
			c.Window = 65535
			c.ManualAck = round == 0 && hasPeekOffset(config) // they hold nothing up
			c.SendAck()
			c.WaitFor(9*round + len("abcdef"+last))
			c.ManualAck = false
		}
		require.Equal(t, heard{"abcdefghiabcdefghXi", []int{17}}, heardBy(t, c))
	})
}

// pair returns both ends of a connection of the host's own, to compare with.
func pair(t *testing.T) (from, to *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	to, err = l.AcceptTCP()
	require.NoError(t, err)
	t.Cleanup(func() { _ = to.Close() })
	return c.(*net.TCPConn), inLine(t, to)
}

// script is a stream in parts. The reader has read one before the next one is said.
func script(r *rand.Rand) (parts []string) {
	for range 3 + r.IntN(12) {
		part := strings.Repeat("o", r.IntN(1+r.IntN(6000)))
		if r.IntN(2) == 0 {
			part += string(rune('A' + r.IntN(26)))
		}
		if r.IntN(4) == 0 {
			part += strings.Repeat("p", r.IntN(200))
		}
		if part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

// Whatever is said in whatever pieces, both ends hear by the engine what they hear without it.
func TestT62StreamsWithUrgentBytesAreThoseOfADirectConnection(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		for seed := range uint64(8) {
			r := rand.New(rand.NewPCG(seed, 62))
			parts := script(r)
			from, to := pair(t)
			b := newBench(t, setup{config: config, guest: porttest.Options{MTU: 576 + r.IntN(9000)}})
			c, host := b.connect(wide)
			inLine(t, host)
			var direct, up heard
			n := 0
			for _, part := range parts {
				say(t, from, part)
				require.NoError(t, direct.hear(to, len(part)))
				say(t, host, part)
				n += len(part)
				c.WaitFor(n)
				send(c, part)
				b.hears(&up, host, len(part))
			}
			require.Equal(t, direct, up, "guest to host, seed %d", seed)
			require.Equal(t, direct, heardBy(t, c), "host to guest, seed %d", seed)
		}
	})
}

// The same without waiting for each other, where which marks are seen is a matter of time, but for the last one.
func TestT62StreamsThatNobodyWaitsForStayWhole(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		for seed := range uint64(4) {
			r := rand.New(rand.NewPCG(seed, 63))
			b := newBench(t, setup{config: config})
			c, host := b.connect(wide)
			text := strings.Join(append(script(r), script(r)...), "")
			go func() {
				say(t, host, text)
				_ = host.CloseWrite()
			}()
			lossy := r.IntN(2) == 0
			b.Drop = func(d porttest.Direction, s *porttest.Segment) bool {
				return lossy && d == porttest.ToGuest && len(s.Payload) > 0 && r.IntN(8) == 0
			}
			b.Skip("the end comes", c.Ended)
			h := heardBy(t, c)
			require.True(t, text == h.text, "seed %d: the data differs", seed)
			require.Subset(t, marksOf(text), h.marks, "seed %d", seed)
			if m := marksOf(text); len(m) > 0 {
				require.Contains(t, h.marks, m[len(m)-1], "seed %d: the last one is not lost", seed)
			}
		}
	})
}
