package filter_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/capture/filter"
)

// accepted are filters in this part of tcpdump's language.
var accepted = []string{
	"tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "ah", "esp", "ip", "ip6", "arp", "rarp",
	"not tcp", "! udp", "!ip6", "tcp or udp", "tcp && not port 80", "tcp || arp", "not (tcp or udp)", "not not tcp",
	"host 10.0.2.15", "src host 10.0.2.15", "dst 10.0.2.15", "src or dst host 10.0.2.15", "src and dst host 10.0.2.15",
	"ip host 10.0.2.15", "ip src 10.0.2.15", "arp host 10.0.2.15", "arp src 10.0.2.15", "arp dst host 10.0.2.2", "rarp host 10.0.2.15",
	"host fd00::15", "ip6 host fd00::15", "src fd00::15", "ip6 dst fd00::15", "src && dst host fd00::15", "host ::ffff:10.0.2.15",
	"net 10.0.0.0/8", "src net 10.0.2.0/24", "dst net 10.0.2.0 mask 255.255.255.0", "ip net 10.0.2.0/28", "net 10.0.2.15/32", "net 0.0.0.0/0",
	"net fd00::/8", "dst net fd00::/64", "ip6 net fd00::/33", "src net fd00::15/128", "not net fd00::/16",
	"port 80", "tcp port 80", "udp port 53", "sctp port 80", "src port 80", "tcp dst port 80", "udp src or dst port 53", "src and dst port 80",
	"portrange 80-443", "tcp portrange 1-80", "udp src portrange 53-53", "dst portrange 0-65535", "not port 80",
	"port 80 or 443", "port 80 or 443 and not 53", "port (80 or 443)", "src port (80 or 443)", "host 10.0.2.15 or 10.0.2.2", "host (10.0.2.15 and 10.0.2.2)",
	"host 10.0.2.15 and not 10.0.2.2", "not host 10.0.2.15 or 10.0.2.2", "host 10.0.2.15 and port 80 or 443", "arp host 10.0.2.15 or 10.0.2.2",
	"tcp or udp and host 10.0.2.15", "tcp and udp or arp", "(tcp or udp) and (host 10.0.2.15 or net fd00::/8)",
	"ether host 02:00:00:00:00:01", "ether src 02:00:00:00:00:01", "ether dst host 02:00:00:00:00:02", "ether src and dst 02:00:00:00:00:01",
	"ether host 02:00:00:00:00:01 or 02:00:00:00:00:02", "broadcast", "ether broadcast", "multicast", "ether multicast", "ip multicast", "ip6 multicast",
	"ip proto 6", "ip6 proto 17", "proto 17", `ip proto \udp`, `proto \icmp`, "proto 6 or 17", "ether proto 0x0800", `ether proto \arp`, `ether proto \ip6`, "ether proto 0x88cc",
	"less 60", "greater 100", "less 60 or greater 1000", "len > 60", "len <= 60", "len >= 61 and len != 100", "len = 60",
	"tcp[13] & 2 != 0", "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "tcp[tcpflags] == tcp-syn", "not tcp[13] = 2", "tcp[0:2] = 80", "tcp[2:2]>80",
	"udp[4:2] >= 8", "icmp[icmptype] = icmp-echo", "icmp[icmptype] != icmp-echo and icmp[icmpcode] < 1", "icmp6[icmp6type] = icmp6-echo", "icmp6[0] = 135",
	"ip[0] & 0xf != 5", "ip[8] < 64", "ip[2:2] > 576", "ip[12:4] = 0x0a00020f", "ip6[6] = 6", "ip6[4:2] > 100", "arp[6:2] = 1", "rarp[6:2] = 3", "ether[0] & 1 = 1", "ether[12:2] = 0x0800",
	"sctp[0:2] = 80", "igmp[0] = 0x16", "ip[ip[0] & 15] = 0", "tcp[tcp[12] / 16] > 1", "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
	"tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)", "ip[2:2] - 20 > 20", "ip[2:2] * 2 > len", "len / 14 = 4", "-ip[8] = 0xffffffc0",
	"ip[1] + ip[2] + ip[3] > 5", "ip[0] | 1 = 0x45", "1 << ip[0] = 0", "(ip[0]) = 0x45", "((ip[0] & 0xf)) > 4", "ip[0] > tcp[0]", "tcp[0] = tcp[1]", "5 < ip[0]",
	"tcp[60000] = 1", "not ip[60000] = 1", "ip[0]&0xf>4", "ip6[40]=1 or ip6[41]=2",
	" \ttcp\n and   port   80 ", "tcp and(port 80)", "(((tcp)))", "tcp[ 13 ]&2!=0", "tcp [13] = 2",
}

// refused are texts that are not: what tcpdump understands and this part of its language has not, and what makes no sense.
var refused = []string{
	"foo", "tcp foo", "host", "host foo", "host example.com", "host 10.0.2.0/24", "host 10.0", "10.0.2.15", "tcp or 10.0.2.15", "port", "port http", "port 70000", "port 080", "port 80-90",
	"portrange 90-80", "portrange 80", "tcp host 10.0.2.15", "ip host fd00::1", "ip6 host 10.0.2.15", "ip port 80", "icmp port 80", "arp port 80", "ether port 80",
	"net 10", "net 10.0.2.15/8", "net fd00::1", "net 10.0.0.0 mask 255.0.255.0", "net 10.0.0.1 mask 255.0.0.0", "net fd00::1/8", "ether 10.0.2.15", "ether host 10.0.2.15", "ether host 02-00-00-00-00-01", "ether",
	"ether host 02:00:00:00:00:00:00:01", "ip broadcast", "tcp broadcast", "arp multicast", "vlan", "vlan 5 and tcp", "mpls", "pppoes", "gateway 10.0.2.2", "inbound", "tcp and vlan", "ip6 protochain 6", "atalk",
	"proto tcp", `proto \foo`, "proto 300", "src proto 6", "ether proto 100", "ether proto 0x10000", "arp proto 6", "tcp proto 6", "less", "less tcp", "greater 99999999999",
	"tcp[13]", "tcp[13] & 2", "tcp[13] &", "tcp[13:3] = 1", "tcp[13:8] = 1", "tcp[] = 1", "tcp[1 = 1", "tcp[13] = ", "tcp[99999] = 1", "tcp[13] & 2 | 1 = 1", "ip[0] / 0 = 1", "len / ip[0] = 1", "ip[4:2] / ip[6:2] > 0", "ip[0] << 32 = 0",
	"esp[0] = 1", "radio[0] = 1", "len-5>3", "len", "1", "80 = 0777", "(tcp", "tcp)", "()", "not", "!", "and", "tcp and", "tcp or or udp", "tcp udp", "tcp not udp", "tcp; udp", "tcp\x00", "tcp # x",
	"port (80", "port (80 443)", "port (80 or (443))", "src or src port 80", "src and port 80", "host 10.0.2.15%eth0", "host fe80::1%eth0", "tcp or port", "(port 80) or 443", "tcp[0] = 1 or 443", "tcp \xff",
	"tcp[1.5] = 1", "tcp[+1] = 1", "0x = 1", "0xg = 1", "host 010.0.2.15", "'tcp'",
}

// tcpdump compiles a filter, and reports false if it does not understand it.
func tcpdump(t testing.TB, text string) (code []filter.Instruction, ok bool) {
	out, err := exec.CommandContext(t.Context(), "tcpdump", "-n", "-y", "EN10MB", "-ddd", "--", text).Output()
	if err != nil {
		failed := new(exec.ExitError)
		require.ErrorAs(t, err, &failed, "make test installs tcpdump")
		if strings.Contains(string(failed.Stderr), "rejects all packets") {
			return []filter.Instruction{{Op: 6}}, true
		}
		t.Log(string(failed.Stderr))
		return nil, false
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for _, line := range lines[1:] {
		var in filter.Instruction
		_, err := fmt.Sscan(line, &in.Op, &in.True, &in.False, &in.K)
		require.NoError(t, err, line)
		code = append(code, in)
	}
	require.NotEmpty(t, code)
	return code, true
}

// frames are of all kinds that filters look for, and what nobody sends.
func frames() (all [][]byte) {
	random := rand.New(rand.NewSource(1))
	for range 2000 {
		all = append(all, randomFrame(random))
	}
	return all
}

// one chooses a value.
func one[T any](random *rand.Rand, of ...T) T { return of[random.Intn(len(of))] }

func randomFrame(random *rand.Rand) []byte {
	mac := func() []byte {
		return one(random, []byte{2, 0, 0, 0, 0, 1}, []byte{2, 0, 0, 0, 0, 2}, bytes.Repeat([]byte{255}, 6), []byte{1, 0, 94, 0, 0, 1})
	}
	frame := append(append([]byte(nil), mac()...), mac()...)
	switch random.Intn(8) {
	case 0:
		frame = append(frame, one(random, []byte{8, 6}, []byte{0x80, 0x35})...)
		arp := []byte{0, 1, 8, 0, 6, 4, 0, byte(1 + random.Intn(3))}
		arp = append(append(arp, mac()...), address4(random)...)
		return append(append(append(frame, arp...), mac()...), address4(random)...)
	case 1:
		frame = append(frame, one(random, []byte{0x88, 0xcc}, []byte{0x81, 0}, []byte{0, 46}, []byte{8, 0}, []byte{0x86, 0xdd})...)
		return append(frame, randomBytes(random, 140)...)
	case 2, 3, 4:
		return append(append(frame, 0x86, 0xdd), ipv6(random)...)
	}
	return append(append(frame, 8, 0), ipv4(random)...)
}

// randomBytes are as many as all headers together, and more.
func randomBytes(random *rand.Rand, most int) []byte {
	b := make([]byte, 100+random.Intn(most-100))
	_, _ = random.Read(b)
	return b
}

func address4(random *rand.Rand) []byte {
	return one(random, []byte{10, 0, 2, 15}, []byte{10, 0, 2, 2}, []byte{10, 1, 0, 1}, []byte{192, 0, 2, 1}, []byte{224, 0, 0, 1})
}

func address6(random *rand.Rand) []byte {
	b := make([]byte, 16)
	b[15] = one(random, byte(0x15), 2)
	b[0] = one(random, byte(0xfd), 0xff, 0x20)
	b[4] = one(random, byte(0), 0x80)
	if random.Intn(8) == 0 {
		b = append(make([]byte, 10), 255, 255, 10, 0, 2, 15)
	}
	return b
}

func protocol(random *rand.Rand) byte {
	return one(random, byte(6), 6, 6, 17, 17, 1, 58, 132, 2, 44, 50, 51, 255)
}

func ipv4(random *rand.Rand) []byte {
	length := 5 + random.Intn(3)
	packet := make([]byte, 4*length)
	packet[0] = 0x40 | byte(length)
	packet[8] = byte(one(random, 1, 64, 255))
	packet[9] = protocol(random)
	if random.Intn(4) == 0 {
		filter.Put16(packet[6:], uint16(one(random, 0x4000, 0x2000, 0x0001, 0x2003)))
	}
	copy(packet[12:], address4(random))
	copy(packet[16:], address4(random))
	packet = append(packet, transport(random)...)
	filter.Put16(packet[2:], uint16(len(packet)))
	return packet
}

func ipv6(random *rand.Rand) []byte {
	packet := make([]byte, 40)
	packet[0] = 0x60
	packet[6] = protocol(random)
	copy(packet[8:], address6(random))
	copy(packet[24:], address6(random))
	if packet[6] == 44 {
		packet = append(packet, protocol(random), 0, 0, 0, 0, 0, 0, 0)
	}
	packet = append(packet, transport(random)...)
	filter.Put16(packet[4:], uint16(len(packet)-40))
	return packet
}

// transport is a header with ports, or what else begins alike.
func transport(random *rand.Rand) []byte {
	b := make([]byte, 20)
	_, _ = random.Read(b)
	filter.Put16(b, uint16(one(random, 80, 443, 53, 8, 1024, 5)))
	filter.Put16(b[2:], uint16(one(random, 80, 443, 53, 22, 40000)))
	if random.Intn(8) == 0 {
		b[0], b[1] = one(random, byte(8), 0, 128, 135, 0x16), byte(random.Intn(2))
	}
	b[12] = 0x50
	b[13] = one(random, byte(2), 1, 16, 18)
	if random.Intn(3) == 0 {
		b = append(b, "GET / HTTP/1.1\r\n"...)
	}
	return append(b, make([]byte, random.Intn(50))...)
}

func TestAProgramSelectsWhatTcpdumpSelects(t *testing.T) {
	all := frames()
	for _, text := range accepted {
		t.Run(text, func(t *testing.T) {
			requireAlike(t, text, all)
		})
	}
}

// requireAlike compares our program with that of tcpdump.
func requireAlike(t *testing.T, text string, all [][]byte) {
	program, err := filter.Parse(text)
	require.NoError(t, err, text)
	theirs, ok := tcpdump(t, text)
	require.True(t, ok, "tcpdump does not understand %q", text)
	for i, frame := range all {
		want := filter.Run(theirs, frame)
		if program.Match(frame, len(frame)) != want {
			require.Fail(t, "it is not selected alike", "%q, tcpdump: %v, frame %d: %x", text, want, i, frame)
		}
		if seen := frame[:min(len(frame), program.Reach())]; program.Match(seen, len(frame)) != want {
			require.Fail(t, "the program looks behind its reach", "%d bytes of frame %d: %x", len(seen), i, frame)
		}
	}
}

func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	for _, text := range refused {
		_, err := filter.Parse(text)
		require.Error(t, err, text)
	}
}

// Random filters of all that the language has: what is accepted means what tcpdump means.
func TestRandomFiltersSelectWhatTcpdumpSelects(t *testing.T) {
	random := rand.New(rand.NewSource(2))
	all := frames()[:800]
	some := func() string { return accepted[random.Intn(len(accepted))] }
	for range 80 {
		form := one(random, "%s and %s", "%s or %s", "%s and not %s", "not %s or %s", "(%s) and (%s)", "not (%s and %s)", "%s && ! (%s)", "(%s or %s) and port 80")
		requireAlike(t, fmt.Sprintf(form, some(), some()), all)
	}
}

// The runner is that of libpcap: tcpdump reads a file of the same frames.
func TestTheSameFramesAreSelectedFromAFile(t *testing.T) {
	all := frames()[:2000]
	var file bytes.Buffer
	require.NoError(t, binary.Write(&file, binary.LittleEndian, []uint32{0xa1b2c3d4, 4<<16 | 2, 0, 0, 1 << 18, 1}))
	for i, frame := range all {
		require.NoError(t, binary.Write(&file, binary.LittleEndian, []uint32{uint32(i), 0, uint32(len(frame)), uint32(len(frame))}))
		file.Write(frame)
	}
	path := filepath.Join(t.TempDir(), "frames.pcap")
	require.NoError(t, os.WriteFile(path, file.Bytes(), 0o600))
	for i, text := range accepted {
		if i%5 != 0 {
			continue
		}
		program, err := filter.Parse(text)
		require.NoError(t, err)
		out, err := exec.CommandContext(t.Context(), "tcpdump", "-r", path, "-w", "-", "--", text).Output()
		require.NoError(t, err, text)
		var want, got []int
		for b := out[24:]; len(b) > 0; {
			want = append(want, int(binary.LittleEndian.Uint32(b)))
			b = b[16+binary.LittleEndian.Uint32(b[8:]):]
		}
		for i, frame := range all {
			if program.Match(frame, len(frame)) {
				got = append(got, i)
			}
		}
		require.Equal(t, want, got, text)
	}
}
