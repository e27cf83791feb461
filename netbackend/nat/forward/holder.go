package forward

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/spec"
)

// holder names the process that has a port of the host: "nginx (process 4711)", or "" if it cannot be found, as is so
// with processes of other users.
func holder(proto uint8, port netip.AddrPort) string {
	table := "/proc/net/" + spec.ProtoName(proto)
	for _, file := range []string{table, table + "6"} {
		content, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(content)) {
			if inode, ok := holdsPort(line, proto, port); ok {
				return processWithSocket(inode)
			}
		}
	}
	return ""
}

// holdsPort reads a line of /proc/net/tcp and its like (proc(5)): if its socket keeps others from binding port, its
// inode is returned.
func holdsPort(line string, proto uint8, port netip.AddrPort) (inode string, ok bool) {
	const localColumn, stateColumn, inodeColumn, listening = 1, 3, 9, "0A"
	columns := strings.Fields(line)
	if len(columns) <= inodeColumn || proto == unix.IPPROTO_TCP && columns[stateColumn] != listening {
		return "", false
	}
	has, err := parseProcAddress(columns[localColumn])
	if err != nil || has.Port() != port.Port() {
		return "", false
	}
	same := has.Addr() == port.Addr() || has.Addr().IsUnspecified() || port.Addr().IsUnspecified()
	return columns[inodeColumn], same
}

// parseProcAddress reads an address and port such as 0100007F:1F90. The kernel prints addresses as words of 32 bits in
// the machine's byte order.
func parseProcAddress(text string) (netip.AddrPort, error) {
	addrText, portText, _ := strings.Cut(text, ":")
	words, err := hex.DecodeString(addrText)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for i := 0; i+4 <= len(words); i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	port, err := strconv.ParseUint(portText, 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addr, ok := netip.AddrFromSlice(words)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("malformed address %q", addrText)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}

// processWithSocket finds a process that has the socket with the given inode open.
func processWithSocket(inode string) string {
	open, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, fd := range open {
		if to, err := os.Readlink(fd); err != nil || to != "socket:["+inode+"]" {
			continue
		}
		process := filepath.Dir(filepath.Dir(fd))
		name, err := os.ReadFile(filepath.Join(process, "comm"))
		if err != nil {
			continue // it has just ended
		}
		return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), filepath.Base(process))
	}
	return ""
}
