package spec

import (
	"fmt"
	"strings"
)

// QEMUForwardForm is how QEMU writes a forward of its user network, the value of hostfwd.
const QEMUForwardForm = "[tcp|udp]:[HOST-ADDRESS]:HOST-PORT-[GUEST-ADDRESS]:GUEST-PORT or unix:PATH-[GUEST-ADDRESS]:GUEST-PORT"

// ParseQEMUForward reads a forward as QEMU writes it. As with QEMU, it listens on all addresses of IPv4 where none is given.
func ParseQEMUForward(text string) (Forward, error) {
	here, ok := ofQEMU(text)
	if !ok {
		return Forward{}, fmt.Errorf("want %s, as in tcp::2222-:22", QEMUForwardForm)
	}
	return readForward(here)
}

// ofQEMU writes a forward of QEMU as it is written here.
func ofQEMU(text string) (here string, ok bool) {
	if path, isUnix := strings.CutPrefix(text, unixPrefix); isUnix {
		at := strings.LastIndex(path, "-")
		if at < 0 {
			return "", false
		}
		return unixPrefix + path[:at] + ":" + strings.TrimPrefix(path[at+1:], ":"), true
	}
	m := qemuForward.FindStringSubmatch(text)
	if m == nil {
		return "", false
	}
	proto, host, guest := m[1], m[2], m[4]
	if proto == "" {
		proto = "tcp"
	}
	if host == "" {
		host = "0.0.0.0"
	}
	if guest != "" {
		guest += ":"
	}
	return fmt.Sprintf("%s:%s:%s:%s%s", proto, host, m[3], guest, m[5]), true
}
