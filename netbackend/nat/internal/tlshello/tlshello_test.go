package tlshello

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/servername"
)

// clientHello is what Go's client sends first for a configuration.
func clientHello(t testing.TB, cfg *tls.Config) []byte {
	client, server := net.Pipe()
	defer func() { _ = server.Close() }()
	go func() {
		_ = tls.Client(client, cfg).Handshake()
		_ = client.Close()
	}()
	b := make([]byte, MaxLen)
	n, err := server.Read(b)
	require.NoError(t, err)
	return b[:n]
}

// extension is one of a hello.
func extension(kind uint16, content ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(content)))
	return append(b, content...)
}

// names is a server_name extension with names of a type.
func names(kind byte, all ...string) []byte {
	var list []byte
	for _, name := range all {
		list = append(list, kind, byte(len(name)>>8), byte(len(name)))
		list = append(list, name...)
	}
	return extension(extensionServerName, append(binary.BigEndian.AppendUint16(nil, uint16(len(list))), list...)...)
}

// message is the handshake message of a hello with extensions.
func message(extensions ...[]byte) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 1, 1, 0) // no session, one suite, one compression method
	all := slices.Concat(extensions...)
	body = binary.BigEndian.AppendUint16(body, uint16(len(all)))
	body = append(body, all...)
	return append([]byte{typeClientHello, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

// records cuts a message into records of so many bytes.
func records(message []byte, each int) (b []byte) {
	for part := range slices.Chunk(message, each) {
		b = append(b, recordHandshake, 3, 1, byte(len(part)>>8), byte(len(part)))
		b = append(b, part...)
	}
	return b
}

func TestTheNameOfARealClientIsRead(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		b := clientHello(t, &tls.Config{ServerName: "Example.ORG", MaxVersion: version})
		h, n, err := new(Reader).Read(b)
		require.NoError(t, err)
		require.Equal(t, Hello{Name: "example.org"}, h)
		require.Equal(t, len(b), n)
	}
}

func TestAHelloMayComeByteByByteAndInRecordsOfAnyLength(t *testing.T) {
	whole := clientHello(t, &tls.Config{ServerName: "example.org"})
	for _, each := range []int{1, 2, 3, 4, 5, 100, 1 << 14} {
		b := records(whole[recordHeader:], each)
		var r Reader
		for i := range b {
			_, n, err := r.Read(b[:i])
			require.NoError(t, err)
			require.Zero(t, n, "%d of %d bytes", i, len(b))
		}
		h, n, err := r.Read(append(slices.Clone(b), "early data"...))
		require.NoError(t, err)
		require.Equal(t, "example.org", h.Name)
		require.Equal(t, len(b), n)
	}
}

func TestGREASEIsPassedOver(t *testing.T) {
	h, err := Parse(message(extension(0x0a0a), names(0, "a.example"), extension(0xfafa, 0), extension(21, make([]byte, 500)...)))
	require.NoError(t, err)
	require.Equal(t, Hello{Name: "a.example"}, h)
}

func TestAnEncryptedHelloIsJudgedByItsOuterName(t *testing.T) {
	h, err := Parse(message(extension(extensionECH, 0, 0, 1), names(0, "outer.example"), extension(extensionEarlyData)))
	require.NoError(t, err)
	require.Equal(t, Hello{Name: "outer.example", Encrypted: true, EarlyData: true}, h)
}

func TestAHelloWithoutOneNameIsRefused(t *testing.T) {
	for what, c := range map[string]struct {
		extensions [][]byte
		want       error
	}{
		"no extension":          {nil, ErrNoName},
		"no name":               {[][]byte{extension(43, 2, 3, 4)}, ErrNoName},
		"two names":             {[][]byte{names(0, "a.example", "b.example")}, ErrSeveral},
		"two extensions":        {[][]byte{names(0, "a.example"), names(0, "b.example")}, ErrSeveral},
		"the same twice":        {[][]byte{names(0, "a.example"), extension(43), names(0, "a.example")}, ErrSeveral},
		"another twice":         {[][]byte{names(0, "a.example"), extension(43), extension(43)}, ErrMalformed},
		"another type":          {[][]byte{names(1, "a.example")}, ErrNoName},
		"an empty name":         {[][]byte{names(0, "")}, ErrMalformed},
		"an empty extension":    {[][]byte{extension(0)}, ErrMalformed},
		"an empty list":         {[][]byte{extension(0, 0, 0)}, ErrMalformed},
		"a list that lies":      {[][]byte{extension(0, 0, 9, 0, 0, 1, 'a')}, ErrMalformed},
		"bytes behind the list": {[][]byte{extension(0, 0, 4, 0, 0, 1, 'a', 'x')}, ErrMalformed},
		"IPv4":                  {[][]byte{names(0, "192.0.2.1")}, servername.ErrAddress},
		"IPv4 with a dot":       {[][]byte{names(0, "192.0.2.1.")}, servername.ErrAddress},
		"IPv4 in a short form":  {[][]byte{names(0, "127.1")}, servername.ErrAddress},
		"IPv4 as one number":    {[][]byte{names(0, "0x7f000001")}, servername.ErrAddress},
		"IPv6":                  {[][]byte{names(0, "2001:db8::1")}, servername.ErrAddress},
		"IPv6 in brackets":      {[][]byte{names(0, "[2001:db8::1]")}, servername.ErrAddress},
		"only a dot":            {[][]byte{names(0, ".")}, servername.ErrBadName},
		"an empty label":        {[][]byte{names(0, "a..example")}, servername.ErrBadName},
		"two final dots":        {[][]byte{names(0, "a.example..")}, servername.ErrBadName},
		"a zero byte":           {[][]byte{names(0, "a.example\x00.b.example")}, servername.ErrBadName},
		"a space":               {[][]byte{names(0, "a.example ")}, servername.ErrBadName},
		"not ASCII":             {[][]byte{names(0, "\u00e4.example")}, servername.ErrBadName},
		"a wildcard":            {[][]byte{names(0, "*.example")}, servername.ErrBadName},
		"a port":                {[][]byte{names(0, "a.example:443")}, servername.ErrBadName},
		"a long label":          {[][]byte{names(0, strings.Repeat("a", 64)+".example")}, servername.ErrBadName},
		"a long name":           {[][]byte{names(0, strings.Repeat("a.", 130)+"example")}, servername.ErrBadName},
		"too many extensions":   {many(maxExtensions + 1), ErrMalformed},
	} {
		_, err := Parse(message(c.extensions...))
		require.ErrorIs(t, err, c.want, what)
	}
	without := message()
	without = without[:len(without)-2] // not even their length
	without[3] -= 2
	_, err := Parse(without)
	require.ErrorIs(t, err, ErrNoName)
}

// many are so many extensions, which all differ.
func many(n int) (all [][]byte) {
	for i := range n {
		all = append(all, extension(uint16(1000+i)))
	}
	return all
}

func TestAFinalDotAndUpperCaseMakeNoOtherName(t *testing.T) {
	for _, text := range []string{"a_b-1.example", "A_B-1.EXAMPLE", "a_b-1.Example."} {
		h, err := Parse(message(names(0, text)))
		require.NoError(t, err)
		require.Equal(t, "a_b-1.example", h.Name)
	}
}

func TestWhatIsNoHelloIsRefusedAsSoonAsThatIsKnown(t *testing.T) {
	good := records(message(names(0, "a.example")), 1<<14)
	change := func(at int, b byte) []byte {
		c := slices.Clone(good)
		c[at] = b
		return c
	}
	for what, c := range map[string]struct {
		stream []byte
		want   error
	}{
		"SSL 2.0":                     {[]byte{0x80}, ErrNotTLS},
		"HTTP":                        {[]byte("G"), ErrNotTLS},
		"ssh":                         {[]byte("SSH-2.0-x\r\n"), ErrNotTLS},
		"an alert":                    {[]byte{21, 3, 1, 0, 2, 1, 0}, ErrNotTLS},
		"data":                        {[]byte{23}, ErrNotTLS},
		"another version":             {[]byte{22, 2}, ErrNotTLS},
		"a later version":             {[]byte{22, 3, 5}, ErrNotTLS},
		"an empty record":             {[]byte{22, 3, 1, 0, 0}, ErrMalformed},
		"a record beyond its bound":   {[]byte{22, 3, 1, 0x40, 1}, ErrMalformed},
		"another message":             {change(5, 2), ErrNotTLS},
		"another message, at once":    {change(5, 2)[:6], ErrNotTLS},
		"another version of hello":    {change(9, 2), ErrMalformed},
		"a message beyond its record": {append(slices.Clone(good[:8]), change(8, 1)[8:]...), ErrMalformed},
		"a message longer than 16 K":  {change(6, 1), ErrTooLong},
		"a session id that is long":   {change(43, 33), ErrMalformed},
		"an odd list of suites":       {change(45, 1), ErrMalformed},
		"data in between":             {slices.Concat(records(message(names(0, "a.example")), 50)[:55], []byte{23}), ErrNotTLS},
		"no end":                      {records(make([]byte, MaxLen), 1), ErrNotTLS},
	} {
		_, n, err := new(Reader).Read(c.stream[:min(len(c.stream), MaxLen)])
		require.ErrorIs(t, err, c.want, what)
		require.Zero(t, n)
	}
}

func TestAHelloOfMoreThan16KiBIsRefused(t *testing.T) {
	m := message(names(0, "a.example"), extension(21, make([]byte, 15000)...))
	for _, each := range []int{1, 4, 1 << 14} { // the headers of records count as well
		b := records(m, each)
		_, n, err := new(Reader).Read(b[:min(len(b), MaxLen)])
		if len(b) <= MaxLen {
			require.NoError(t, err)
			require.Equal(t, len(b), n)
			continue
		}
		require.ErrorIs(t, err, ErrTooLong)
	}
	_, _, err := new(Reader).Read(make([]byte, MaxLen+1))
	require.ErrorIs(t, err, ErrTooLong)
}

func TestLengthsThatLieAreRefused(t *testing.T) {
	good := message(names(0, "a.example"), extension(43, 2, 3, 4))
	for i := range good {
		_, err := Parse(good[:i])
		require.Error(t, err, "cut off after %d bytes", i)
		longer := slices.Clone(good)
		longer[i]++
		_, _ = Parse(longer) // must not panic
	}
	_, err := Parse(append(slices.Clone(good), 0))
	require.ErrorIs(t, err, ErrMalformed)
}

func TestAServersAnswerTellsWhetherAnotherHelloFollows(t *testing.T) {
	random := retryRandom()
	retry := append([]byte{recordHandshake, 3, 3, 0, 88, 2, 0, 0, 84, 3, 3}, random[:]...)
	other := bytes.Replace(retry, random[:], bytes.Repeat([]byte{7}, 32), 1)
	fragment := slices.Clone(retry)
	fragment[4] = 37
	for what, c := range map[string]struct {
		answer []byte
		want   Answer
	}{
		"nothing":             {nil, Unclear},
		"part of one":         {retry[:AnswerLen-1], Unclear},
		"a fragment":          {fragment, Unclear},
		"it asks":             {retry, AsksMore},
		"it does not":         {other, Final},
		"an alert":            {[]byte{recordAlert, 3, 3, 0, 2, 2, 40}, Final},
		"no TLS":              {[]byte("HTTP/1.1 400 Bad Request"), Final},
		"a certificate first": {append([]byte{22, 3, 3, 1, 0, 11}, make([]byte, 60)...), Final},
	} {
		require.Equal(t, c.want, ReadAnswer(c.answer), what)
	}
}

func TestARealServersRequestForAnotherHelloIsKnown(t *testing.T) {
	client, server := net.Pipe()
	defer func() { _ = client.Close() }()
	go func() {
		_ = tls.Server(server, &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP521}, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none") }}).Handshake()
		_ = server.Close()
	}()
	hello := clientHello(t, &tls.Config{ServerName: "example.org", CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP521}})
	_, err := client.Write(hello)
	require.NoError(t, err)
	b := make([]byte, 4096)
	n, err := client.Read(b)
	require.NoError(t, err)
	require.Equal(t, AsksMore, ReadAnswer(b[:n]))
}

func TestASecondHelloIsFoundBehindAnyRecords(t *testing.T) {
	early := slices.Concat([]byte{20, 3, 3, 0, 1, 1}, append([]byte{23, 3, 3, 1, 0}, make([]byte, 256)...), []byte{21, 3, 3, 0, 2, 1, 0})
	second := records(message(names(0, "b.example")), 1<<14)
	b := slices.Concat(early, second)
	for _, each := range []int{1, 2, 3, 7, 300, len(b)} {
		var w Follower
		var held []byte
		passed, next := 0, Passes
		for part := range slices.Chunk(b, each) {
			held = append(held, part...)
			var n int
			if n, next = w.Walk(held); next == Second {
				passed += n
				break
			}
			passed += n
			held = held[n:]
		}
		require.Equal(t, Second, next, each)
		require.Equal(t, len(early), passed, each)
	}
}

func TestWhatFollowsAHelloAndIsNoneIsTold(t *testing.T) {
	for what, c := range map[string]struct {
		stream []byte
		want   Next
	}{
		"a key exchange":    {[]byte{22, 3, 3, 0, 40, 16, 0}, Other},
		"part of a message": {[]byte{22, 3, 3, 0, 40}, SecondPart},
		"part of a header":  {[]byte{23, 3}, SecondPart},
		"another protocol":  {[]byte("GET"), Broken},
		"another version":   {[]byte{23, 2}, Broken},
		"an empty message":  {[]byte{22, 3, 3, 0, 0}, Broken},
		"a long record":     {[]byte{23, 3, 3, 0x41, 1}, Broken},
	} {
		n, next := new(Follower).Walk(c.stream)
		require.Equal(t, c.want, next, what)
		require.Zero(t, n, what)
	}
}

func FuzzHello(f *testing.F) {
	f.Add(clientHello(f, &tls.Config{ServerName: "example.org"}), uint16(7))
	f.Add(records(message(names(0, "a.example"), extension(extensionECH, 1, 2)), 3), uint16(1))
	f.Add([]byte{0x80, 46, 1, 3, 1}, uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		b = b[:min(len(b), MaxLen)]
		whole, n, err := new(Reader).Read(b)
		var r Reader
		h, m, err2 := r.Read(b[:min(int(cut), len(b))])
		if err2 == nil && m == 0 {
			h, m, err2 = r.Read(b)
		}
		if err == nil && n > 0 {
			require.NoError(t, err2)
			require.Equal(t, whole, h)
			require.Equal(t, n, m, "where the stream is cut makes no difference")
			name, err := servername.Parse(whole.Name)
			require.NoError(t, err)
			require.Equal(t, whole.Name, name)
		} else {
			require.False(t, err2 == nil && m > 0)
		}
		followed, walked, left := new(Follower), 0, b
		for range 3 {
			n, next := followed.Walk(left)
			walked += n
			left = left[n:]
			if next != Passes {
				break
			}
		}
		require.LessOrEqual(t, walked, len(b))
		ReadAnswer(b)
	})
}
