package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/daemon"
)

// wrongUses are command lines and what is said about them; SOCK stands for a socket's path that is right, FILE for a plain
// file, LIVE for a socket that is listened on, DIR for an empty directory, LOOP for a link to itself, X for 108 letters.
// What follows the bar is the message.
const wrongUses = `
fly                                                  | unexpected "fly"; commands are nat, tap,
nta                                                  | unexpected "nta"; did you mean vring nat?
/tmp/vm0.sock                                        | unexpected "/tmp/vm0.sock"; write vring nat --socket-path /tmp/vm0.sock
8080:80                                              | unexpected "8080:80"; write vring nat -p 8080:80
nat /tmp/vm0.sock                                    | unexpected "/tmp/vm0.sock"; write --socket-path /tmp/vm0.sock
nat vm0.sock                                         | unexpected "vm0.sock"; write --socket-path vm0.sock
nat 10.0.2.0/24                                      | unexpected "10.0.2.0/24"; write --network 10.0.2.0/24
nat 8080:80                                          | unexpected "8080:80"; write -p 8080:80
doctor x                                             | unexpected "x"; this command takes flags only
completion tcsh                                      | want one shell: bash, zsh, fish
man                                                  | want one directory, as in vring man
man DIR/none                                         | there is no directory
man FILE                                             | there is no directory
--speed                                              | unknown flag --speed
nat --speed                                          | unknown flag --speed
nat --sokcet-path SOCK                               | unknown flag --sokcet-path; did you mean --socket-path?
nat --net 10.0.3.0/24                                | unknown flag --net; the guest's addresses follow from --network
nat --forwards 80:80                                 | unknown flag --forwards; did you mean --forward?
nat -t 8080                                          | unknown flag -t; a forward of ports is -p HOST-PORT:GUEST-PORT
nat -u 53                                            | unknown flag -u; a forward of UDP is -p udp:
nat -netdev user                                     | unknown flag -netdev; that is an option of QEMU
nat --socket SOCK                                    | unknown flag --socket; the socket is --socket-path PATH
nat --verbose                                        | unknown flag --verbose; more is logged with --log-level debug
nat --version                                        | unknown flag --version; the version is printed by vring --version
nat --mtu                                            | --mtu: a value is needed, a whole number
nat --mtu big                                        | --mtu "big": want a whole number
nat --mtu 9k                                         | --mtu "9k": want a whole number, as in 9000
nat --reconnect-grace 30                             | --reconnect-grace "30": want a time with its unit, as in 30s
nat --reconnect-grace soon                           | --reconnect-grace "soon": want a time with its unit, as in 30s
nat --restrict=on                                    | --restrict "on": want true or false; --restrict alone means true
nat --queues x                                       | --queues "x": want a whole number
tap --vlan 70000                                     | --vlan "70000": want a whole number
nat                                                  | no socket to meet the front end at; write --socket-path PATH, or --fd NUMBER
nat --fd -1                                          | --fd -1: want the number of an open descriptor
nat --socket-path SOCK --fd 3                        | --socket-path and --fd exclude each other
nat --client --fd 3                                  | --client needs --socket-path
nat --socket-path SOCK --socket-path SOCK            | is given twice: each guest needs its own
nat --socket-path SOCKX                              | unix sockets allow 107
nat --socket-path DIR/none/s                         | there is no directory
nat --socket-path FILE/s                             | file is not a directory
nat --socket-path FILE                               | exists and is not a socket
nat --socket-path LIVE                               | is in use by another process
nat --socket-path LOOP/s                             | too many levels of symbolic links
nat --socket-path unix:/run/s.sock                   | a path has no unix: in front; write /run/s.sock
nat --socket-path /proc/s.sock --sandbox=off         | --socket-path /proc/s.sock: listen on /proc/s.sock: bind:
nat --socket-path=                                   | --socket-path: the value is empty; leave the flag out
nat --socket-path SOCK --log-level loud              | --log-level "loud": want debug, info, warn or error
nat --socket-path SOCK --log-level info+1            | --log-level "info+1": want debug, info, warn or error
stub --socket-path SOCK --log-format xml             | --log-format "xml": want text or json
nat --socket-path SOCK --metrics :9100               | --metrics ":9100": want an address; write --metrics 9100 for the loopback, or --metrics 0.0.0.0:9100 for all
nat --socket-path SOCK --metrics localhost:9100      | --metrics "localhost:9100": want [ADDRESS:]PORT with an IP address, not a name, as in 9100 or 192.0.2.1:9100
nat --socket-path SOCK --metrics 70000               | --metrics "70000": want [ADDRESS:]PORT with an IP address
nat --socket-path SOCK --metrics 0                   | --metrics 127.0.0.1:0: want a port from 1 to 65535
nat --socket-path SOCK --metrics 192.0.2.1:9100 --sandbox=off | --metrics 192.0.2.1:9100: cannot assign requested address
nat --socket-path SOCK --socks :1080                 | --socks ":1080": want an address; write --socks 1080 for the loopback, or --socks 0.0.0.0:1080 for all
nat --socket-path SOCK --socks 0                     | --socks 127.0.0.1:0: want a port from 1 to 65535
nat --socket-path SOCK --socks 1080 --allow-host tcp:1079-1081 | --allow-host tcp:1080 would lead from each guest into all others by --socks 127.0.0.1:1080; use another port for it
nat --socket-path SOCK --socks 1080 --redirect 10.0.2.9=127.0.0.1 | --redirect 10.0.2.9=127.0.0.1 would lead from each guest into all others by --socks 127.0.0.1:1080; use another port for it
nat --socket-path SOCK --ui 8000 --redirect tcp:10.0.2.9:80=127.0.0.1:8000 | --redirect tcp:10.0.2.9:80=127.0.0.1:8000 would lead guests to the page of --ui 127.0.0.1:8000, which controls them; use another port for it
nat --socket-path SOCK --dns-name a=192.0.2.1        | DNS name "a=192.0.2.1": it has no zone
nat --socket-path SOCK --redirect 10.0.2.9           | redirect "10.0.2.9": it does not say where the guest is led to; want [tcp:|udp:]ADDRESS[:PORT]=HOST-ADDRESS[:PORT]
nat --socket-path SOCK --redirect 10.0.2.9=10.0.2.8  | redirect 10.0.2.9=10.0.2.8: 10.0.2.8 is in the guest's own network
stub --socket-path SOCK --socks 1080                 | --socks leads into guests behind NAT, and there are none; leave it out
nat --socket-path SOCK --ui 192.0.2.1:8000           | --ui 192.0.2.1:8000: the page is not encrypted, so it is on the loopback only, as in --ui 8000; from another host use ssh -L 8000:127.0.0.1:8000
nat --socket-path SOCK --ui 8000 --control off       | --ui needs a control socket, which the page asks; name one with --control
nat --socket-path SOCK --ui 8000 --allow-host tcp:8000 | --allow-host tcp:8000 would lead guests to the page of --ui 127.0.0.1:8000, which controls them; use another port for it
nat --socket-path SOCK --ui=                         | --ui: the value is empty; leave the flag out
nat --socket-path SOCK --socks=                      | --socks: the value is empty; leave the flag out
nat --socket-path SOCK --metrics=                    | --metrics: the value is empty; leave the flag out
nat --socket-path SOCK --sandbox=maybe               | --sandbox "maybe": want on
nat --socket-path SOCK --poll-us -1                  | --poll-us -1: want 0 to 1000000
nat --socket-path SOCK --cpus two                    | --cpus "two": want numbers of processors and ranges of them, as in 2,4-7
nat --socket-path SOCK --cpus 0,                     | --cpus "0,": want numbers
nat --socket-path SOCK --cpus 1023                   | --cpus "1023": there is no processor 1023
nat --socket-path SOCK --cpus=                       | --cpus: the value is empty
stub --socket-path SOCK --mode fast                  | --mode "fast": want null, echo, reflect, sink or source
stub --socket-path SOCK --mode source --size 10      | --mode source: frames of 10 bytes: want 60 to
stub --socket-path SOCK --size 100                   | --size needs --mode source
stub --socket-path SOCK --mode echo --rate 5         | --rate needs --mode source
nat --socket-path SOCK -p x                          | forward "x": a host port and a guest port are needed
nat --socket-path SOCK -p 80                         | forward "80": a guest port is needed as well; write -p 80:80
nat --socket-path SOCK -p tcp::8080-:80              | this is QEMU's form
nat --socket-path SOCK -p 8053:53/udp                | write -p udp:8053:53
nat --socket-path SOCK -p 1:10.0.3.1:1               | 10.0.3.1 is no guest's address in the network 10.0.2.0/24
nat --socket-path SOCK -p 1:10.0.2.17:1              | no guest has the address 10.0.2.17; the only guest is 10.0.2.15
nat --socket-path SOCK -p 70-79:1-10 -p 0.0.0.0:75:9 | both want port 75 of the host
nat --socket-path SOCK -p unix:LIVE:80               | is in use by another process
nat --socket-path SOCK -p unix:/X:80                 | unix sockets allow 107
nat --socket-path SOCK -p unix:FILE:80               | exists and is not a socket
nat --socket-path SOCK -p unix:DIR/none/a:80         | there is no directory
nat --socket-path SOCK -p unix:FILE/a:80             | file is not a directory
nat --socket-path SOCK -p unix:/proc/a.sock:80       | forward of the socket /proc/a.sock
nat --socket-path SOCK -p unix:/a:80 -p unix:/a:81   | both want the socket /a
nat --socket-path SOCK -p 192.0.2.1:8080:80          | 192.0.2.1 is not an address of this host
nat --socket-path SOCK --allow-host x                | host service "x": "x" is not a port
nat --socket-path SOCK --allow-host localhost:80     | write --allow-host tcp:80
nat --socket-path SOCK --allow-host tcp:127.0.0.2:80 | the guest reaches 127.0.0.1 and ::1 of the host's loopback, but not 127.0.0.2
nat --socket-path SOCK --allow-host udp:10.0.2.3:53  | the address is in the guest's own network; the host is 10.0.2.2 there
nat --socket-path SOCK --allow-host icmp:127.0.0.1   | the guest cannot name 127.0.0.1; its router always answers
nat --socket-path SOCK --network6 off --allow-host [::1]:80 | the guest has no IPv6
nat --socket-path SOCK --deny 192.0.2.0/24:0         | rule "192.0.2.0/24:0": "0" is not a port
nat --socket-path SOCK --deny 443                    | write --deny 0.0.0.0/0:443 --deny [::/0]:443
nat --socket-path SOCK --allow 127.0.0.1             | name the service by --allow-host
nat --socket-path SOCK --restrict --allow 10.0.2.0/24 | that is the guest's own network, where rules do not matter
nat --socket-path SOCK --network ten                 | --network "ten": want an address and a length, as in 10.0.2.0/24
nat --socket-path SOCK --network 10.0.3.0            | write --network 10.0.3.0/24
nat --socket-path SOCK --network 10.0.2.5/24         | bits are set behind the first 24; write 10.0.2.0/24
nat --socket-path SOCK --network 10.0.2.0/28         | want a length between /8 and /27
nat --socket-path SOCK --network fd00::/64           | want an IPv4 network; --network6 is that of IPv6
nat --socket-path SOCK --network 127.0.0.0/8         | guests cannot have addresses of loopback
nat --socket-path SOCK --network6 fd00::1/64         | bits are set behind the first 64; write fd00::/64
nat --socket-path SOCK --network6 fd00::/48          | want an IPv6 network of /64
nat --socket-path SOCK --network6 no                 | --network6 "no": want an address and a length, as in fd00:10:0:2::/64, or off
nat --socket-path SOCK --network6=                   | --network6: the value is empty
nat --socket-path SOCK --mtu 575                     | --mtu 575: want 576 to 65520
nat --socket-path SOCK --mtu 65521                   | --mtu 65521: want 576 to 65520
nat --socket-path SOCK --mtu 1200 --network6 fd00:10:0:2::/64 | IPv6 needs --mtu 1280 or more
nat --socket-path SOCK --reconnect-grace -1s         | --reconnect-grace -1s: want 0 or more
nat --socket-path SOCK --queues 0                    | --queues 0: want 1 to
nat --socket-path SOCK --dns dns.example             | with an IP address, not a name
nat --socket-path SOCK --dns 1.1.1.1,8.8.8.8         | write --dns once for each
nat --socket-path SOCK --dns 127.0.0.1#5353          | write --dns 127.0.0.1:5353
nat --socket-path SOCK --dns 1.1.1.1#one.example     | write --dns tls://1.1.1.1#one.example
nat --socket-path SOCK --dns 1.1.1.1 --dns tls://::1 | want tls:// for all, or for none
nat --socket-path SOCK --dns-for 192.0.2.53          | names no resolver; want DOMAIN=RESOLVER
nat --socket-path SOCK --dns-for corp.x=vpn.example  | "vpn.example" is not an IP address
nat --socket-path SOCK --dns-for corp.x=10.0.2.3     | the address is in the guest's own network
nat --socket-path SOCK --dns-for corp.x=::1,tls://::1 | want tls:// for all, or for none
nat --socket-path SOCK --dns-for c.x=::1 --dns-for c.x.=::2 | has resolvers already; name all of them at once
nat --socket-path SOCK --dns fe80::1                 | a link-local address is good on one link only
nat --socket-path SOCK --dns fe80::1%eth0            | a link-local address is good on one link only
nat --socket-path SOCK --dns 0.0.0.0                 | want the address of one host
nat --socket-path SOCK --dns 1.1.1.1:0               | want a port between 1 and 65535
nat --socket-path SOCK --dns 10.0.2.3                | the address is in the guest's own network
nat --socket-path SOCK --hostname bad_host!          | host name "bad_host!": want up to 63 letters
nat --socket-path SOCK --hostname web.example.org    | write --hostname web --domain example.org
nat --socket-path SOCK --domain a..b                 | domain "a..b": want names
nat --socket-path SOCK --hostname=                   | --hostname: the value is empty
nat --socket-path SOCK --search a,b                  | an option holds one domain; write --search once for each
nat --socket-path SOCK --search a..b                 | --search "a..b": want names of letters
nat --socket-path SOCK --search none --search a.org  | --search none and --search a.org exclude each other
nat --socket-path SOCK --search=                     | --search: the value is empty
nat --socket-path SOCK --lease 10.0.2.50             | want MAC=ADDRESS, as in 52:54:00:12:34:56=10.0.2.50
nat --socket-path SOCK --lease 52:54:00:00:00:01,10.0.2.50 | write --lease 52:54:00:00:00:01=10.0.2.50
nat --socket-path SOCK --lease 01:00:5e:00:00:01=10.0.2.50 | is not the address of one Ethernet interface
nat --socket-path SOCK --lease 52:54:00:00:00:01=10.0.3.50 | want an address of a host in the guest's network 10.0.2.0/24
nat --socket-path SOCK --lease 52:54:00:00:00:01=10.0.2.255 | want an address of a host in the guest's network
nat --socket-path SOCK --lease 52:54:00:00:00:01=10.0.2.3 | that of the router or of the name server
nat --socket-path SOCK --lease 52:54:00:00:00:01=10.0.2.50 --lease 52:54:00:00:00:02=10.0.2.50 | another host has the address already
nat --socket-path SOCK --lease 52:54:00:00:00:01=10.0.2.50 --lease 52:54:00:00:00:01=10.0.2.51 | the host has an address already
nat --socket-path SOCK --network6 off --lease 52:54:00:00:00:01=fd00:10:0:2::50 | the guest has no IPv6
nat --socket-path SOCK --route 192.168.7.0/24        | want NETWORK/BITS=ROUTER, as in 192.168.7.0/24=10.0.2.50
nat --socket-path SOCK --route 192.168.7.1/24=10.0.2.50 | write 192.168.7.0/24=10.0.2.50
nat --socket-path SOCK --route 192.168.7.0/24=10.0.3.50 | the router 10.0.3.50 is not in the guest's network
nat --socket-path SOCK --route 2001:db8::/32=fd00:10:0:2::50 | in IPv6 each router advertises itself
nat --socket-path SOCK --ntp pool.ntp.org            | want an IP address
nat --socket-path SOCK --ntp 127.0.0.1               | want the address of one host
nat --socket-path SOCK --boot-file pxelinux.0        | nobody knows where that file is; add --tftp DIRECTORY or --boot-server ADDRESS
nat --socket-path SOCK --tftp /none                  | want a directory with what guests boot from: open /none
nat --socket-path SOCK --tftp /srv --shared-network --network 192.0.2.0/24 --guest-address 192.0.2.1 | --tftp and --shared-network
nat --socket-path SOCK --boot-server 192.0.2.1       | no file is named; add --boot-file NAME
nat --socket-path SOCK --boot-file x --boot-server 127.0.0.1 | the host itself is 10.0.2.2
nat --socket-path SOCK --boot-file x --boot-server 192.0.2.1 --boot-server 192.0.2.2 | want one of each version of IP
nat --socket-path SOCK --boot-file sparc=x --boot-server 192.0.2.1 | there is no client "sparc"; want bios
nat --socket-path SOCK --boot-file efi-x64=          | want [CLIENT=]NAME
nat --socket-path SOCK --dhcp-option 42              | want NUMBER=VALUE with a number of 1 to 255
nat --socket-path SOCK --dhcp-option 256=x           | want NUMBER=VALUE with a number of 1 to 255
nat --socket-path SOCK --dhcp-option 53=x            | option 53 is the protocol's own
nat --socket-path SOCK --dhcp-option 26=1400         | how many bytes a number has is not known here; write it as hex:
nat --socket-path SOCK --dhcp-option 43=hex:123      | want an even number of digits
nat --socket-path SOCK --dhcp-option 44=192.0.2.1,x  | "x" is not an address; if all of it is text, write "text:192.0.2.1,x"
nat --socket-path SOCK --dhcp-option 44=2001:db8::1  | IPv6 to --dhcp6-option
nat --socket-path SOCK --dhcp-option 44=a --dhcp-option 44=b | --dhcp-option 44: given twice
nat --socket-path SOCK --dhcp6-option 3=x            | option 3 is the protocol's own
nat --socket-path SOCK --dhcp-optoin 44=a            | did you mean --dhcp-option?
nat --socket-path SOCK --bootfile x                  | what the guest boots is given with --boot-file
nat --socket-path SOCK --dhcp-host x                 | given with --lease MAC=ADDRESS
tap --socket-path SOCK                               | each --socket-path needs a --tap of its own: there are 1 and 0
tap --socket-path SOCK --tap a/b                     | not a name of an interface
tap --socket-path SOCK --tap tap0 --vlan 5           | VLAN
tap --socket-path SOCK --tap tap0 --vlan 0           | --vlan 0: want 1 to 4094
tap --socket-path SOCK --tap tap0 --bridge br0 --vlan 4095 | want 1 to 4094
tap --socket-path SOCK --tap tap0 --bridge br0 --trunk x | --trunk "x"
tap --socket-path SOCK --tap tap0 --bridge tap0      | cannot be both
tap --socket-path SOCK --tap tap0 --bridge=          | --bridge: the value is empty
tap --socket-path SOCK --tap=                        | --tap: the value is empty
tap --socket-path SOCK --tap tap0 --mac 1            | --mac "1": want an Ethernet address
tap --socket-path SOCK --tap tap0 --mac 01:00:5e:00:00:01 | is not the address of one Ethernet interface
tap --socket-path SOCK --tap tap0 --mtu 0            | --mtu 0: leave the flag out
tap --socket-path SOCK --tap tap0 --mtu 67           | MTU 67
tap --socket-path SOCK --tap tap0 --queues 0         | 0 queues: want 1 to
`

// places makes what wrongUses names.
func places(t *testing.T) *strings.Replacer {
	dir := shortDir(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(in("file"), nil, 0o600))
	require.NoError(t, os.Mkdir(in("dir"), 0o700))
	require.NoError(t, os.Symlink(in("loop"), in("loop")))
	alive, err := net.Listen("unix", in("alive"))
	require.NoError(t, err)
	t.Cleanup(func() { alive.Close() })
	return strings.NewReplacer("SOCK", in("s"), "FILE", in("file"), "LIVE", in("alive"), "DIR", in("dir"), "LOOP", in("loop"),
		"X", strings.Repeat("x", 108))
}

func TestWrongUseIsToldInOneLineAndByTheExitStatus(t *testing.T) {
	place := places(t)
	for line := range strings.Lines(strings.TrimSpace(wrongUses)) {
		command, want, found := strings.Cut(line, "|")
		require.True(t, found, line)
		command, want = strings.TrimSpace(command), strings.TrimSpace(want)
		t.Run(command, func(t *testing.T) {
			status, stdout, stderr := runHere(t, strings.Fields(place.Replace(command))...)
			require.Equal(t, exitUsage, status, stderr)
			require.Empty(t, stdout)
			lines := strings.Split(strings.TrimSpace(stderr), "\n")
			require.Len(t, lines, 2, "one line, and where to read more: %s", stderr)
			require.Contains(t, lines[0], want)
			require.Regexp(t, `^Try 'vring.* --help'\.$`, lines[1])
		})
	}
}

func TestAHostNameWithASpaceIsRefused(t *testing.T) {
	status, _, stderr := runHere(t, "nat", "--socket-path", filepath.Join(shortDir(t), "s"), "--hostname", "bad host")
	require.Equal(t, exitUsage, status)
	require.Equal(t, 2, strings.Count(stderr, "\n"), stderr)
	require.Contains(t, stderr, `host name "bad host": want up to 63 letters, digits, hyphens and underscores, as in web-1`)
}

func TestOptionsThatDoNothingAreToldAtTheStart(t *testing.T) {
	for args, want := range map[string]string{
		"--mtu 1200":                "no IPv6 for the guest: the MTU is too small",
		"--allow 192.0.2.1:443":     "--allow changes nothing",
		"--queues 32":               "more queue pairs than processors",
		"--restrict":                "no resolvers",
		"--allow 169.254.169.254":   "",
		"--mtu 1200 --network6 off": "",
	} {
		sock := filepath.Join(shortDir(t), "s")
		status, _, stderr := runHere(t, append([]string{"nat", "--sandbox=off", "--socket-path", sock}, strings.Fields(args)...)...)
		require.Equal(t, exitOK, status, stderr)
		if want != "" {
			require.Contains(t, stderr, want, args)
			continue
		}
		require.NotContains(t, stderr, "changes nothing", args)
		require.NotContains(t, stderr, "no IPv6 for the guest", args)
	}
	dir := shortDir(t)
	_, _, stderr := runHere(t, "nat", "--sandbox=off", "--socket-path", filepath.Join(dir, "a"), "--socket-path", filepath.Join(dir, "b"), "--hostname", "web")
	require.Contains(t, stderr, "all guests get the same host name")
}

func TestASmallMTULeavesIPv6Out(t *testing.T) {
	_, _, stderr := runHere(t, "nat", "--sandbox=off", "--socket-path", filepath.Join(shortDir(t), "s"), "--mtu", "1279")
	require.NotContains(t, stderr, "network of IPv6")
	_, _, stderr = runHere(t, "nat", "--sandbox=off", "--socket-path", filepath.Join(shortDir(t), "s"), "--mtu", "1280")
	require.Contains(t, stderr, "network of IPv6")
}

func TestAFlagThatIsSetToItsDefaultIsSet(t *testing.T) {
	cmd := newNAT()
	require.NoError(t, cmd.ParseFlags([]string{"--network6", defaultNetwork6}))
	f := natFlags{mtu: 576, queues: 1, network6: defaultNetwork6, serveFlags: serveFlags{cmd: cmd}}
	c, err := f.config()
	require.NoError(t, err)
	whole := daemon.Config{NAT: c, FrontEnds: daemon.FrontEnds{FD: new(int)}}
	_, err = whole.Check()
	require.ErrorContains(t, wrongUse(err), "IPv6 needs --mtu 1280 or more", "it is not left out in silence")
}

func TestWhatIsOpenIsLoggedAsTheOptionThatOpensIt(t *testing.T) {
	dir := shortDir(t)
	options := []string{
		"-p", "gate:send-proxy-v2:127.0.0.1:21080:80", "-p", "udp:127.0.0.1:21080:10.0.2.15:80", "-p", "127.0.0.1:21081-21083:1-3",
		"-p", "accept-proxy:unix:" + dir + "/web it's.sock:80", "--allow-host", "tcp:5000-5010", "--allow-host", "tcp:127.0.0.1:80",
		"--allow-host", "icmp:192.0.2.1", "--deny", "tcp:[::/0]:25", "--allow", "192.0.2.1", "--dns", "127.0.0.1:5300", "--restrict",
	}
	_, _, stderr := runHere(t, append([]string{"nat", "--sandbox=off", "--socket-path", dir + "/s", "--log-format", "json"}, options...)...)
	var printed []string
	for _, message := range []string{"forward", "host service", "rule", "resolver", "all else is closed"} {
		for _, line := range requireObjects(t, stderr, message) {
			printed = append(printed, line["option"].(string))
		}
	}
	require.Equal(t, []string{
		"-p gate:send-proxy-v2:tcp:127.0.0.1:21080:10.0.2.15:80", "-p udp:127.0.0.1:21080:10.0.2.15:80",
		"-p tcp:127.0.0.1:21081-21083:10.0.2.15:1-3", `-p 'accept-proxy:unix:` + dir + `/web it'\\''s.sock:10.0.2.15:80'`,
		"--allow-host tcp:5000-5010", "--allow-host tcp:127.0.0.1:80", "--allow-host icmp:192.0.2.1",
		"--deny 'tcp:[::/0]:25'", "--allow 192.0.2.1/32", "--dns 127.0.0.1:5300", "--restrict",
	}, printed)

	var again []string
	for _, p := range printed {
		if !strings.Contains(p, "'") {
			again = append(again, strings.Fields(p)...)
		}
	}
	status, _, second := runHere(t, append([]string{"nat", "--sandbox=off", "--socket-path", dir + "/s", "--log-format", "json"}, again...)...)
	require.Equal(t, exitOK, status, second)
	for _, p := range printed {
		if !strings.Contains(p, "'") {
			require.Contains(t, second, `"option":"`+p+`"`, "pasted back, it opens the same")
		}
	}
}
