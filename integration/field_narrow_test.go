package integration

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// containerPort is where the container's service listens.
const containerPort = 5201

// containerScript makes a container in the guest that has the addresses of its arguments. It is two links away. The first one is narrow,
// and the second is not, so the container does not know of the narrow one: the routers on both ends of that tell who has sent what is
// too big for it. Then the container's service starts, which sends a file and at the same time adds up what it gets. Few programs run,
// for User-mode Linux takes its time to start one.
const containerScript = `
set -e
exec 2>&1
field=$1; shift
put() { for name in $2; do echo $1 >/proc/sys/net/$name; done; }
put 0 "ipv4/neigh/eth0/proxy_delay ipv6/neigh/eth0/proxy_delay ipv6/conf/default/accept_dad"
put 1 "ipv4/ip_forward ipv4/conf/eth0/proxy_arp ipv6/conf/eth0/proxy_ndp"
put 2 ipv6/conf/eth0/accept_ra # though it is a router
put 1 ipv6/conf/all/forwarding
{
	echo "netns add router"
	echo "netns add container"
	echo "link add narrow mtu 1280 type veth peer name narrow mtu 1280 netns router"
	echo "link add wide netns router type veth peer name wide netns container"
	echo "address add 192.0.2.1/30 dev narrow"
	echo "address add 2001:db8::1/126 dev narrow"
	echo "link set narrow up"
	for address; do case $address in
		*:*) echo "route add $address via 2001:db8::2"; echo "neighbour add proxy $address dev eth0";;
		*) echo "route add $address via 192.0.2.2";;
	esac; done
} | ip -batch -
ip netns exec router sh -es "$@" <<'END'
cd /proc/sys/net
for link in narrow wide; do echo 0 >ipv6/conf/$link/accept_dad; done
for name in ipv4/ip_forward ipv6/conf/all/forwarding; do echo 1 >$name; done
{
	echo "address add 192.0.2.2/30 dev narrow"
	echo "address add 2001:db8::2/126 dev narrow"
	echo "address add 192.0.2.5/30 dev wide"
	echo "address add 2001:db8::5/126 dev wide"
	echo "link set narrow up"
	echo "link set wide up"
	echo "route add default via 192.0.2.1"
	echo "route add default via 2001:db8::1"
	for address; do case $address in
		*:*) echo "route add $address via 2001:db8::6";;
		*) echo "route add $address via 192.0.2.6";;
	esac; done
} | ip -batch -
END
ip netns exec container sh -es "$@" <<'END'
echo 0 >/proc/sys/net/ipv6/conf/wide/accept_dad
{
	echo "link set lo up"
	echo "address add 192.0.2.6/30 dev wide"
	echo "address add 2001:db8::6/126 dev wide"
	echo "link set wide up"
	echo "route add default via 192.0.2.5"
	echo "route add default via 2001:db8::5"
	for address; do echo "address add $address dev lo"; done
} | ip -batch -
END
ip netns exec container socat -d -d -t 60 TCP6-LISTEN:5201,ipv6only=0,reuseaddr,fork \
	SYSTEM:"cat $field/files/small & sha256sum >$field/upload; wait" >$field/service.log 2>&1 &
until [ -s $field/service.log ]; do sleep 0.01; done
cat $field/service.log
`

// worldScript fetches a file from the world and sends it there. Its arguments are the folder, the container's address, and the world's.
const worldScript = `
exec 2>&1
curl="ip netns exec container curl -sS -g -m 60 --interface $2"
$curl http://$3/small | sha256sum
$curl -T $1/files/small http://$3/sum
`

// narrowRow is a way in which the container talks to others.
type narrowRow struct {
	name    string
	address string // of the container, which nobody has talked to yet: what vring knows of a path, it knows of its address
	forward string // where clients on the host connect
	world   string // whom the container connects to
}

// A container behind a narrow link of a guest that routes is reached as any other machine. That a segment is too big, the guest's kernel
// tells vring once for each address.
func TestAContainerBehindANarrowLinkOfTheGuestIsReached(t *testing.T) {
	t.Parallel()
	rows := []narrowRow{
		{name: "a forward, IPv4", address: "10.0.2.100", forward: "127.0.0.1:8000"},
		{name: "a forward, IPv6", address: "fd00:10:0:2::100", forward: "[::1]:8000"},
		{name: "a connection of its own, IPv4", address: "10.0.2.101", world: fieldWorld},
		{name: "a connection of its own, IPv6", address: "fd00:10:0:2::101", world: "[" + fieldWorld6 + "]"},
	}
	f := newField(t)
	f.writeFiles()
	f.serveWeb()
	setup := []string{f.dir}
	forwards := []string{"--lease", "02:00:00:00:00:02=" + rows[0].address} // who never asks for it, but vring must know the address
	for _, row := range rows {
		setup = append(setup, row.address)
		if row.forward != "" {
			forwards = append(forwards, "-p", row.forward+":"+net.JoinHostPort(row.address, fmt.Sprint(containerPort)))
		}
	}
	f.start(forwards...)
	f.do(nil, "dhcp", card)
	f.do(nil, "slaac", card)
	out := f.inGuest(f.write("container", containerScript), setup...)
	require.Zero(t, out.Status, out.Output)
	require.Contains(t, out.Output, "listening on", "the container's service")
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			told, begin := f.vring.counters().of(t, "paths_narrowed"), time.Now()
			if row.forward != "" {
				f.requireContainer(t, row.forward)
			} else {
				f.requireWorld(t, row)
			}
			t.Logf("%v for %d bytes each way", time.Since(begin), smallBytes)
			require.Equal(t, told+1, f.vring.counters().of(t, "paths_narrowed"))
		})
	}
}

// requireContainer connects on the host to the container's service, and sends a file both ways at once.
func (f *field) requireContainer(t *testing.T, forward string) {
	t.Helper()
	upload := f.write("upload", "")
	var conn net.Conn
	require.NoError(t, f.host.Do(func() (err error) {
		conn, err = net.Dial("tcp", forward)
		return err
	}))
	require.NoError(t, conn.SetDeadline(time.Now().Add(soon)))
	done := exchange(conn, smallBytes)
	require.NoError(t, done.err)
	requirePattern(t, guestSeed, smallBytes, done.got)
	sum, err := os.ReadFile(upload)
	require.NoError(t, err)
	require.Equal(t, sumOf(hostSeed, smallBytes), string(sum))
}

// requireWorld lets the container fetch a file from the world and send it back.
func (f *field) requireWorld(t *testing.T, row narrowRow) {
	t.Helper()
	out := f.inGuest(f.write("world", worldScript), f.dir, row.address, row.world)
	require.Equal(t, sumOf(guestSeed, smallBytes)+posted("PUT", guestSeed, smallBytes), out.Output)
}
