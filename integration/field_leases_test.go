package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/userland"
)

// A leaseClient is a DHCP client of the field. Its script gets a lease and shows what has become of it, asks again for it, and gives it
// back if the client knows how to.
type leaseClient struct {
	name     string
	script   string
	want     []string // what it prints, beside what all must
	messages []string // of DHCPv4, in this order
	also6    bool     // it asks for an address by DHCPv6, too
}

// leaseScript begins each script. Each client meets an interface that nobody has used yet.
const leaseScript = `
exec 2>&1
work=$1; mkdir -p $work; cd $work
for setting in accept_ra autoconf; do echo 0 >/proc/sys/net/ipv6/conf/eth0/$setting; done
ip link set eth0 down; ip address flush dev eth0; ip link set eth0 mtu 1500; ip link set eth0 up
rm -f /etc/resolv.conf
tcpdump -i eth0 -U -l -s 0 -Z root -nvv -w seen.pcap --print port 67 or port 68 or port 546 or port 547 >seen.txt 2>tcpdump.log &
recorder=$!
wait_for() {
	end=$(($(date +%s) + 60)); echo "$(date +%T) $1" >>waited
	until eval "$1" >/dev/null 2>&1; do
		[ $(date +%s) -lt $end ] || { echo "waited in vain: $1"; break; }
		sleep 0.1
	done
}
count() { grep -c "$1" seen.txt; }
wait_for "grep -q 'listening on' tcpdump.log"
show() {
	ip -4 -o address show dev eth0 | sed 's/.*inet \([^ ]*\).*/address \1/'
	ip -4 route show default
	echo "mtu $(cat /sys/class/net/eth0/mtu)"
	grep -v '^#' /etc/resolv.conf | grep .
}
has_address() { wait_for "ip -4 address show dev eth0 | grep -q 'inet 10.0.2.15/24'"; }
has_both() { has_address; wait_for "ip -6 address show dev eth0 | grep -q 'inet6 fd00:10:0:2::15/128'"; }
finish() { sleep 0.2; kill $recorder; wait $recorder; grep 'DHCP-Message\|dhcp6 ' seen.txt | sed 's/.*: //; s/.*dhcp6 \([a-z]*\).*/\1/'; }
`

// leaseClients are the DHCP clients.
func leaseClients() []leaseClient {
	return []leaseClient{
		{name: "dhclient", script: `
dhclient="$(dirname $0)/dhclient-4 -q -sf $(dirname $0)/dhclient-script -pf $work/pid -lf $work/leases"
$dhclient --version
$dhclient -1 eth0
has_address; show
$dhclient -x eth0
$dhclient -1 eth0
wait_for '[ $(count ACK) -ge 2 ]'; echo renewed
$dhclient -r eth0
wait_for '[ $(count Release) -ge 1 ]'
`, want: []string{"isc-dhclient-4.4"}, messages: []string{"Discover", "Offer", "Request", "ACK", "Request", "ACK", "Release"}},
		{name: "dhcpcd", script: `
dhcpcd --version | head -1
dhcpcd -q -t 60 --waitip=4 eth0
has_both; show
dhcpcd -q -n eth0
wait_for '[ $(count ACK) -ge 2 ]'; echo renewed
dhcpcd -q -k eth0
wait_for '[ $(count Release) -ge 1 ]'
`, want: []string{"dhcpcd 1"}, messages: []string{"Discover", "Offer", "Request", "ACK", "Request", "ACK", "Release"}, also6: true},
		{name: "udhcpc", script: `
busybox | head -1
udhcpc -i eth0 -f -q -n >udhcpc.log 2>&1
udhcpc -i eth0 -f >>udhcpc.log 2>&1 &
client=$!
wait_for '[ $(count ACK) -ge 2 ]' # before that, the address of the first one may be there
has_address
wait_for 'ip route | grep -q default'; show
kill -USR1 $client
wait_for '[ $(count ACK) -ge 3 ]'; echo renewed
kill -USR2 $client
wait_for '[ $(count Release) -ge 1 ]'
kill $client; tail -3 udhcpc.log
`, want: []string{"BusyBox v1"}, messages: []string{"Discover", "Offer", "Request", "ACK", "Request", "ACK", "Release"}},
		{name: "systemd-networkd", script: `
networkctl --version | head -1
tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
mkdir -p /run/systemd/network /run/dbus
printf '[Match]\nName=eth0\n[Network]\nDHCP=yes\n[DHCPv4]\nUseDomains=yes\nUseMTU=yes\n' >/run/systemd/network/eth0.network
dbus-daemon --system --fork --nopidfile
/usr/lib/systemd/systemd-networkd >networkd.log 2>&1 &
client=$!
has_both
sed -n 's/^DNS=/nameserver /p; s/^DOMAINS=/search /p' /run/systemd/netif/links/* | tee /etc/resolv.conf
show
SYSTEMD_IGNORE_CHROOT=1 networkctl renew eth0
wait_for '[ $(count ACK) -ge 2 ]'; echo renewed
kill -TERM $client; wait $client
wait_for '[ $(count Release) -ge 1 ]'
`, want: []string{"systemd 2"}, messages: []string{"Discover", "ACK", "Request", "ACK", "Release"}, also6: true},
		{name: "NetworkManager", script: `
NetworkManager --version
mkdir -p /run/dbus; test -e /run/dbus/system_bus_socket || dbus-daemon --system --fork --nopidfile
NetworkManager --no-daemon >nm.log 2>&1 &
client=$!
wait_for 'nmcli -g STATE general'
has_both
wait_for 'grep -q nameserver /etc/resolv.conf'
show
nmcli -w 30 connection up "$(nmcli -g GENERAL.CONNECTION device show eth0)"
wait_for '[ $(count ACK) -ge 2 ]'; echo renewed
nmcli -w 30 device disconnect eth0
kill $client; wait $client; tail -5 nm.log
`, want: []string{"1."}, messages: []string{"Discover", "Offer", "Request", "ACK", "Request", "ACK"}, also6: true},
	}
}

// Each DHCP client of the field gets the guest's address and all that goes with it, and gives it back.
func TestDHCPClientsGetAndGiveBackTheirLease(t *testing.T) {
	t.Parallel()
	f := newField(t)
	f.copyDhclient()
	f.start("--mtu", "1400", "--hostname", "vm0", "--domain", fieldDomain, "--search", "test."+fieldDomain)
	for _, c := range leaseClients() {
		t.Run(c.name, func(t *testing.T) { f.requireLease(t, c) })
	}
}

// search is the line of resolv.conf with both domains; some write the domain twice, or with a dot at its end.
var search = regexp.MustCompile(`(?m)^search (field\.example\.? )+test\.field\.example\.?$`)

func (f *field) requireLease(t *testing.T, c leaseClient) {
	begin := time.Now()
	out := f.inGuest(f.write(c.name, leaseScript+c.script+"finish\n"), filepath.Join(f.folder("clients"), c.name)).Output
	first, _, _ := strings.Cut(out, "\n")
	t.Logf("%v: %s", time.Since(begin), first)
	require.NotContains(t, out, "waited in vain")
	for _, want := range append(c.want, "address 10.0.2.15/24", "default via 10.0.2.2 ", "nameserver 10.0.2.3", "mtu 1400", "renewed") {
		require.Contains(t, out, want)
	}
	require.Regexp(t, search, out)
	_, seen, _ := strings.Cut(out, "renewed")
	for _, message := range c.messages {
		_, rest, found := strings.Cut(seen, "\n"+message+"\n")
		require.True(t, found, "%s of %v in its turn:\n%s", message, c.messages, out)
		seen = "\n" + rest
	}
	require.Equal(t, c.also6, strings.Contains(out, "\nreply\n"))
}

// copyDhclient puts dhclient, which newer Debians do not have, beside the scripts. It needs the C library alone.
func (f *field) copyDhclient() {
	for from, to := range map[string]string{"dhclient": "dhclient-4", "dhclient-script": "dhclient-script"} {
		path, err := userland.Bookworm.Tool(from)
		require.NoError(f.t, err)
		text, err := os.ReadFile(path)
		require.NoError(f.t, err)
		require.NoError(f.t, os.WriteFile(filepath.Join(f.dir, to), text, 0o755))
	}
}
