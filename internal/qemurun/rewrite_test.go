package qemurun

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/qemuopt"
)

// What is added to a command line for QEMU 11.1, beside the memory.
const (
	added   = "-chardev socket,id=vring,path=/d/s,reconnect-ms=1000 -netdev vhost-user,id=vring-net,chardev=vring"
	memory  = "-object memory-backend-memfd,id=vring-memory,size=128M,share=on -machine memory-backend=vring-memory"
	card    = " -device virtio-net-pci,netdev=vring-net"
	hosts   = "By QEMU's user network the guest reached every service of the host, at 10.0.2.2; vring opens those that --allow-host names."
	isCard  = "The guest's card is virtio-net-pci, the kind that vring serves, whatever the machine's own would be."
	anybody = "Other machines can connect to port 2222, as with QEMU; 127.0.0.1 in front of a port of hostfwd keeps it to this one."
)

func plan(t *testing.T, version qemuopt.Version, queues int, command string) (Plan, error) {
	t.Helper()
	return Rewrite(strings.Split(command, " "), Host{Version: version, Socket: "/d/s", Queues: queues})
}

func TestAGuestGetsMemoryThatVringCanMap(t *testing.T) {
	const net = " " + added + card
	for name, c := range map[string]struct{ old, new string }{
		"none is said":            {"qemu", "qemu " + memory + net},
		"a number is MiB":         {"qemu -m 512", "qemu -m 512 " + strings.Replace(memory, "128M", "512M", 1) + net},
		"a size with its unit":    {"qemu -m 2G", "qemu -m 2G " + strings.Replace(memory, "128M", "2G", 1) + net},
		"a size with slots":       {"qemu -m size=1G,slots=2,maxmem=4G", "qemu -m size=1G,slots=2,maxmem=4G " + strings.Replace(memory, "128M", "1G", 1) + net},
		"the last one counts":     {"qemu -m 1G -m slots=2 --m 3G", "qemu -m 1G -m slots=2 --m 3G " + strings.Replace(memory, "128M", "3G", 1) + net},
		"a file":                  {"qemu -mem-path /dev/hugepages", "qemu -object memory-backend-file,id=vring-memory,size=128M,share=on,mem-path=/dev/hugepages -machine memory-backend=vring-memory" + net},
		"all at once":             {"qemu -mem-prealloc disk", "qemu disk " + strings.Replace(memory, "share=on", "share=on,prealloc=on", 1) + net},
		"that of the machine":     {"qemu -object memory-backend-memfd,id=a,size=1G -machine q35,memory-backend=a", "qemu -object memory-backend-memfd,id=a,size=1G -machine q35,memory-backend=a" + net},
		"one that is not shared":  {"qemu -object memory-backend-ram,id=a,size=1G -M memory-backend=a", "qemu -object memory-backend-ram,id=a,size=1G,share=on -M memory-backend=a" + net},
		"one in JSON":             {`qemu -object {"qom-type":"memory-backend-ram","id":"a"} -M memory-backend=a`, `qemu -object {"qom-type":"memory-backend-ram","id":"a", "share": true} -M memory-backend=a` + net},
		"one of a node":           {"qemu -object memory-backend-file,id=a,size=1G,share=yes -numa node,memdev=a", "qemu -object memory-backend-file,id=a,size=1G,share=yes -numa node,memdev=a" + net},
		"an object of other kind": {"qemu -object iothread,id=a", "qemu -object iothread,id=a " + memory + net},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := plan(t, qemuopt.Version{Major: 11, Minor: 1}, 1, c.old)
			require.NoError(t, err)
			require.Equal(t, c.new, strings.Join(p.QEMU, " "))
			require.Empty(t, p.NAT)
		})
	}
}

func TestWordsThatAreValuesAreNoOptions(t *testing.T) {
	p, err := plan(t, qemuopt.Version{Major: 11, Minor: 1}, 1, "qemu -append -m -nographic -m 1G -name -daemonize -S")
	require.NoError(t, err)
	require.Equal(t, "qemu -append -m -nographic -m 1G -name -daemonize -S "+strings.Replace(memory, "128M", "1G", 1)+" "+added+card, strings.Join(p.QEMU, " "))
}

func TestTheCardFitsTheVersionOfQEMUAndTheQueuePairs(t *testing.T) {
	for name, c := range map[string]struct {
		version                qemuopt.Version
		queues                 int
		command                string
		reconnect, pairs, card string
	}{
		"QEMU 7.2":              {qemuopt.Version{Major: 7, Minor: 2}, 1, "qemu", "reconnect=1", "", ",vectors=0"},
		"QEMU 7.2 with KVM":     {qemuopt.Version{Major: 7, Minor: 2}, 1, "qemu -enable-kvm", "reconnect=1", "", ""},
		"KVM by -accel":         {qemuopt.Version{Major: 7, Minor: 2}, 1, "qemu -accel kvm,dirty-ring-size=4096", "reconnect=1", "", ""},
		"KVM by -machine":       {qemuopt.Version{Major: 7, Minor: 2}, 1, "qemu -machine q35,accel=kvm:tcg", "reconnect=1", "", ""},
		"KVM by the name":       {qemuopt.Version{Major: 7, Minor: 2}, 1, "/usr/bin/kvm", "reconnect=1", "", ""},
		"KVM of something else": {qemuopt.Version{Major: 7, Minor: 2}, 1, "qemu -accel tcg -append kvm", "reconnect=1", "", ",vectors=0"},
		"four queue pairs":      {qemuopt.Version{Major: 11, Minor: 1}, 4, "qemu", "reconnect-ms=1000", ",queues=4", ",mq=on"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := plan(t, c.version, c.queues, c.command)
			require.NoError(t, err)
			want := strings.Replace(added, "reconnect-ms=1000", c.reconnect, 1) + c.pairs + card + c.card
			require.Equal(t, c.command+" "+memory+" "+want, strings.Join(p.QEMU, " "))
			require.Equal(t, c.card != ",vectors=0" && c.version.Major == 7, p.KVM)
		})
	}
}

func TestVringTakesThePlaceOfTheUserNetwork(t *testing.T) {
	const net = "-chardev socket,id=vring,path=/d/s,reconnect-ms=1000 -netdev vhost-user,id=n,chardev=vring"
	for name, c := range map[string]struct {
		old, new string
		notes    []string
	}{
		"-netdev":             {"-netdev user,id=n -device virtio-net-pci,netdev=n", net + " -device virtio-net-pci,netdev=n", nil},
		"the card first":      {"-device virtio-net-device,netdev=n,mac=52:54:00:00:00:07 -netdev user,id=n", "-device virtio-net-device,netdev=n,mac=52:54:00:00:00:07 " + net, nil},
		"both in JSON":        {`-netdev {"type":"user","id":"n"} -device {"driver":"virtio-net-pci","netdev":"n"}`, net + ` -device {"driver":"virtio-net-pci","netdev":"n"}`, nil},
		"-nic":                {"-nic user,model=virtio-net-pci,mac=52:54:00:00:00:07", added + card + ",mac=52:54:00:00:00:07", nil},
		"-nic with a name":    {"-nic user,id=n,model=virtio", net + " -device virtio-net-pci,netdev=n", nil},
		"-nic of the machine": {"-nic user", added + card, []string{isCard}},
		"-net":                {"-net nic,model=virtio-net-pci,macaddr=52:54:00:00:00:07 -net user", added + card + ",mac=52:54:00:00:00:07", nil},
		"another network":     {"-netdev tap,id=t -device e1000,netdev=t -nic user", "-netdev tap,id=t -device e1000,netdev=t " + added + card, []string{isCard}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := plan(t, qemuopt.Version{Major: 11, Minor: 1}, 1, "qemu "+c.old)
			require.NoError(t, err)
			require.Equal(t, "qemu "+c.new+" "+memory, strings.Join(p.QEMU, " "))
			require.Equal(t, append(c.notes, hosts), p.Notes)
		})
	}
}

func TestOptionsOfTheUserNetworkBecomeThoseOfVring(t *testing.T) {
	for old, c := range map[string]struct {
		nat   []string
		notes []string
	}{
		"":                                {nil, nil},
		",hostfwd=tcp:127.0.0.1:2222-:22": {[]string{"--forward=tcp:127.0.0.1:2222:22"}, nil},
		",hostfwd=tcp::2222-:22":          {[]string{"--forward=tcp:0.0.0.0:2222:22"}, []string{anybody}},
		",hostfwd=::2222-10.0.2.15:22,hostfwd=udp:[::1]:53-:53": {
			[]string{"--forward=tcp:0.0.0.0:2222:10.0.2.15:22", "--forward=udp:[::1]:53:53"}, []string{anybody}},
		",guestfwd=tcp:10.0.2.100:80-tcp:localhost:8080,guestfwd=:10.0.2.101:81-tcp:127.0.0.1:81,,server=off": {
			[]string{"--redirect=tcp:10.0.2.100:80=127.0.0.1:8080", "--redirect=tcp:10.0.2.101:81=127.0.0.1:81"},
			[]string{"Each connection of the guest to 10.0.2.100:80 is one to 127.0.0.1:8080; QEMU has a single one for all of them.",
				"Each connection of the guest to 10.0.2.101:81 is one to 127.0.0.1:81; QEMU has a single one for all of them."}},
		",hostfwd=unix:/run/a-b.sock-:22": {[]string{"--forward=unix:/run/a-b.sock:22"}, nil},
		",restrict=on,ipv6=off":           {[]string{"--restrict", "--network6=off"}, nil},
		",restrict=off,ipv4,ipv6":         {nil, nil},
		",hostname=vm,domainname=example.org,dnssearch=a.example,dnssearch=b.example": {
			[]string{"--hostname=vm", "--domain=example.org", "--search=a.example", "--search=b.example"}, nil},
		",bootfile=pxelinux.0,tftp-server-name=192.0.2.1": {[]string{"--boot-file=pxelinux.0", "--boot-server=192.0.2.1"}, nil},
		",bootfile=pxelinux.0,tftp=/srv/tftp":             {[]string{"--boot-file=pxelinux.0", "--tftp=/srv/tftp"}, nil},
		",host=10.0.2.2,dns=10.0.2.3,dhcpstart=10.0.2.15": {nil, nil},
		",dhcpstart=10.0.2.20,hostfwd=tcp:127.0.0.1:2222-:22": {
			[]string{"--lease=52:54:00:12:34:56=10.0.2.20", "--forward=tcp:127.0.0.1:2222:10.0.2.20:22"}, nil},
		",ipv6-net=fd00:1::/64,ipv6-host=fd00:1::2,ipv6-dns=fd00:1::3": {[]string{"--network6=fd00:1::/64"}, nil},
	} {
		t.Run(old, func(t *testing.T) {
			p, err := plan(t, qemuopt.Version{Major: 11, Minor: 1}, 1, "qemu -netdev user,id=n"+old+" -device virtio-net-pci,netdev=n")
			require.NoError(t, err)
			require.Equal(t, c.nat, p.NAT)
			require.Equal(t, append(c.notes, hosts), p.Notes)
		})
	}
}

func TestAnotherNetworkHasTheSameHosts(t *testing.T) {
	p, err := plan(t, qemuopt.Version{Major: 11, Minor: 1}, 1,
		"qemu -nic user,model=virtio,mac=52:54:00:00:00:07,net=192.168.7.9/24,host=192.168.7.2,dns=192.168.7.3,dhcpstart=192.168.7.30")
	require.NoError(t, err)
	require.Equal(t, []string{"--network=192.168.7.0/24", "--lease=52:54:00:00:00:07=192.168.7.30"}, p.NAT)
	require.Contains(t, p.Notes[0], "at 192.168.7.2;")
}

func TestHostsOfTheUserNetworkKeepTheirAddresses(t *testing.T) {
	p, err := plan(t, qemuopt.Version{Major: 11, Minor: 1}, 1,
		"qemu -nic user,model=virtio,host=10.0.2.9,dns=10.0.2.9,ipv6-net=fd00:1::/64,ipv6-host=fd00:1::1,ipv6-dns=fd00:1::3")
	require.NoError(t, err)
	require.Equal(t, []string{"--network6=fd00:1::/64", "--router=10.0.2.9", "--dns-relay=10.0.2.9", "--router=fd00:1::1"}, p.NAT)
	require.Contains(t, p.Notes[0], "at 10.0.2.9;")
}

func TestOptionsOfTheUserNetworkAloneAreTranslated(t *testing.T) {
	for _, text := range []string{"restrict=on,hostfwd=tcp:127.0.0.1:1-:2", "user,restrict=on,hostfwd=tcp:127.0.0.1:1-:2", "user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:1-:2"} {
		nat, notes, err := User(text)
		require.NoError(t, err)
		require.Equal(t, []string{"--restrict", "--forward=tcp:127.0.0.1:1:2"}, nat)
		require.Equal(t, []string{hosts}, notes)
	}
	_, _, err := User("hostfwd=tcp:22,colour=red")
	require.ErrorContains(t, err, "hostfwd=tcp:22")
	require.ErrorContains(t, err, "colour=red")
}

func TestListsInJSONAreRead(t *testing.T) {
	p, err := plan(t, qemuopt.Version{Major: 11, Minor: 1}, 1,
		`qemu -netdev {"type":"user","id":"n","restrict":true,"hostfwd":[{"str":"tcp:127.0.0.1:1-:2"},{"str":"udp:127.0.0.1:3-:4"}]} -device virtio-net-pci,netdev=n`)
	require.NoError(t, err)
	require.Equal(t, []string{"--restrict", "--forward=tcp:127.0.0.1:1:2", "--forward=udp:127.0.0.1:3:4"}, p.NAT)
}

func TestACommandLineThatCannotBeServedIsRefused(t *testing.T) {
	const nic = "-nic user,model=virtio,"
	for command, want := range map[string]string{
		"-daemonize": "-daemonize: QEMU would go to the background",
		"-object memory-backend-file,id=a,size=1G -M memory-backend=a":            "-object a: vring must map the guest's memory; write share=on, and what",
		"-object memory-backend-memfd,id=a,size=1G,share=off -M memory-backend=a": "-object a: share=off: vring must map the guest's memory; write share=on",
		"-M {": "-M {: unexpected end of JSON input",
		"-netdev user,id=n -device e1000,netdev=n":         "the guest's card is e1000: vring serves those of virtio-net only; write virtio-net-pci",
		"-nic user,model=rtl8139":                          "the guest's card is rtl8139",
		"-netdev user,id=n":                                "-netdev user: no card is connected to it; write -device virtio-net-pci,netdev=n",
		"-netdev user,id=a -nic user":                      "there are two user networks",
		"-netdev vhost-user,id=n,chardev=c":                "the guest has a vhost-user network; vring run adds one",
		"-net nic -net tap":                                "-net: vring cannot be part of QEMU's hubs",
		nic + "guestfwd=tcp:10.0.2.100:80-cmd:cat":         "guestfwd=tcp:10.0.2.100:80-cmd:cat: vring starts no programs and opens no devices for the guest; have one listen on the host",
		nic + "guestfwd=tcp:10.0.2.100:80":                 "guestfwd=tcp:10.0.2.100:80: want [tcp]:GUEST-ADDRESS:PORT-tcp:HOST:PORT",
		nic + "guestfwd=tcp:10.0.2.100:x-tcp:127.0.0.1:80": `"x" is not a port`,
		nic + "smb=/srv":                                   "smb=/srv: vring serves no files by SMB",
		nic + "hostfwd=tcp:22":                             "hostfwd=tcp:22: want [tcp|udp]:",
		nic + "host=10.0.3.2":                              "host=10.0.3.2: it is not in 10.0.2.0/24",
		nic + "dns=resolver":                               "dns=resolver: ParseAddr",
		nic + "ipv6-host=fd00::9":                          "ipv6-host=fd00::9: it is not in fec0::/64",
		nic + "dhcpstart=192.0.2.1":                        "dhcpstart=192.0.2.1: it is not in 10.0.2.0/24",
		nic + "net=10.0.0.0/255.0.0.0":                     "net=10.0.0.0/255.0.0.0: write it with the number of its bits, as in 10.0.2.0/24",
		nic + "ipv6-net=fd00::":                            "ipv6-net=fd00::: write it with the number of its bits",
		nic + "ipv4=off":                                   "ipv4=off: vring always gives IPv4",
		nic + "colour=red":                                 "colour=red: vring does not know this property",
	} {
		t.Run(command, func(t *testing.T) {
			_, err := plan(t, qemuopt.Version{Major: 11, Minor: 1}, 1, "qemu "+command)
			require.ErrorContains(t, err, want)
		})
	}
}

func TestAllThatIsWrongIsTold(t *testing.T) {
	_, err := plan(t, qemuopt.Version{Major: 11, Minor: 1}, 1, "qemu -daemonize -nic user,model=virtio,smbserver=10.0.2.4,smb=/b")
	for _, part := range []string{"-daemonize", "smbserver=10.0.2.4", "smb=/b"} {
		require.ErrorContains(t, err, part)
	}
}

func TestACommaThatIsDoubledIsPartOfAValue(t *testing.T) {
	list, err := readProperties("user,hostname=a,,b,id=n", "type")
	require.NoError(t, err)
	require.Equal(t, properties{{"type", "user"}, {"hostname", "a,b"}, {"id", "n"}}, list)
}

func FuzzRewrite(f *testing.F) {
	f.Add("qemu -nic user,hostfwd=tcp::1-:2 -m 1G")
	f.Add(`qemu -netdev {"type":"user","id":"n","hostfwd":[{"str":5}]} -device virtio-net-pci,netdev=n -m`)
	f.Fuzz(func(t *testing.T, command string) {
		words := strings.Split(command, " ")
		p, err := Rewrite(words, Host{Socket: "/d/s"})
		if err == nil {
			require.Contains(t, strings.Join(p.QEMU, " "), "id=vring,path=/d/s")
		}
	})
}
