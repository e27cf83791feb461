package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/process"
)

// openVPNScript connects to the VPN, sends some of a file through it, and waits in the middle of it until the host has another address.
// Then it gets as much. The tunnel must stay the one that it was.
const openVPNScript = `
openvpn --version | head -1 | cut -d' ' -f1-2
cd $work
: >openvpn.log
openvpn --client --dev tun --proto udp4 --remote 198.18.7.2 1194 --nobind --disable-dco --verb 3 \
	--cert $field/vpn-client.crt --key $field/vpn-client.key --peer-fingerprint $(cat $field/vpn-server.print) >>openvpn.log 2>&1 &
client=$!
end=$(($(date +%s) + 60))
until grep -q "Initialization Sequence Completed" openvpn.log; do
	[ $(date +%s) -lt $end ] || { cat openvpn.log; break; }
	sleep 0.1
done
half() {
	head -c 150000 $field/files/small
	touch $field/half/$(cat /proc/sys/kernel/random/uuid)
	until [ -e $field/moved ] || [ $(date +%s) -ge $end ]; do sleep 0.1; done
	head -c 300000 $field/files/small | tail -c +150001
}
half | curl -sS -m 60 -T - http://198.18.99.1/sum
curl -sS -m 60 -r 0-299999 http://198.18.99.1/small | sha256sum
echo "begun $(grep -c 'Initialization Sequence Completed' openvpn.log) times"
kill $client; wait $client
`

// A VPN of a guest lives through a change of the host's address, as one of the host itself does. The guest's UDP is as it is without
// options: each association has a socket of its own, which knows the host's address.
func TestAVPNInAGuestOutlivesTheHostsAddress(t *testing.T) {
	t.Parallel()
	f := newField(t)
	f.writeFiles()
	f.serveWeb()
	vpn := f.serveVPN()
	f.start()
	f.configure()
	const bytes = 300_000 // of the small file
	f.compare(t, fieldClient{
		name: "openvpn", script: openVPNScript, during: (*field).moveHost,
		want: []string{"OpenVPN 2", posted("PUT", guestSeed, bytes) + sumOf(guestSeed, bytes) + "begun 1 times\n"},
	})
	requireFloated(t, vpn.Output())
}

// serveVPN starts an OpenVPN server in the world, whose clients may change their addresses.
func (f *field) serveVPN() *process.Process {
	f.t.Helper()
	for _, name := range []string{"server", "client"} {
		file := filepath.Join(f.dir, "vpn-"+name)
		out := f.onHost(f.write("vpn-keys", fmt.Sprintf("exec 2>&1; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "+
			"-subj /CN=%s -days 2 -keyout %s.key -out %s.crt && openssl x509 -in %s.crt -noout -fingerprint -sha256 | cut -d= -f2 >%s.print",
			name, file, file, file, file)))
		require.Zero(f.t, out.Status, out.Output)
	}
	print, err := os.ReadFile(filepath.Join(f.dir, "vpn-client.print"))
	require.NoError(f.t, err)
	file := filepath.Join(f.dir, "vpn-server")
	return f.serve("openvpn", "--dev", "tun", "--proto", "udp4", "--port", "1194", "--server", "198.18.99.0", "255.255.255.0", "--topology", "subnet",
		"--dh", "none", "--cert", file+".crt", "--key", file+".key", "--peer-fingerprint", strings.TrimSpace(string(print)), "--float",
		"--duplicate-cn", "--keepalive", "10", "60", "--disable-dco", "--verb", "4")
}

// moveHost waits until both clients have sent half of their file, and gives the host another address.
func (f *field) moveHost() {
	f.t.Helper()
	half := f.folder("half")
	require.Eventually(f.t, func() bool {
		clients, err := os.ReadDir(half)
		return err == nil && len(clients) == 2
	}, 2*time.Minute, tick, "the VPN has not begun on host and guest")
	const moved = "198.18.7.61"
	f.host.run("ip address del "+fieldHost+"/24 dev "+fieldWire, "ip address add "+moved+"/24 dev "+fieldWire,
		"ip route replace default via "+fieldWorld)
	f.write("moved", moved)
}

// floated is what the server says of a client that has another address.
var floated = regexp.MustCompile(`floated from \S*(198\.18\.7\.\d+):\d+ to \S*(198\.18\.7\.\d+):\d+`)

// requireFloated checks that the server has seen each of both clients at two addresses, and in one session. Behind vring the port may be
// another one, too.
func requireFloated(t *testing.T, log string) {
	t.Helper()
	moves := floated.FindAllStringSubmatch(log, -1)
	require.Len(t, moves, 2, log)
	for _, move := range moves {
		require.NotEqual(t, move[1], move[2])
	}
	require.Equal(t, 2, strings.Count(log, "Peer Connection Initiated with"), log)
}
