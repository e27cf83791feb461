package qemuopt

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheCommandFitsTheVersionOfQEMU(t *testing.T) {
	for name, c := range map[string]struct {
		line      string
		version   string
		reconnect string
		noVectors bool
	}{
		"Debian 12":    {"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)", "7.2", "reconnect=1", true},
		"Ubuntu 24.04": {"QEMU emulator version 8.2.2 (Debian 1:8.2.2+ds-0ubuntu1)", "8.2", "reconnect=1", true},
		"last before":  {"QEMU emulator version 9.1.3", "9.1", "reconnect=1", true},
		"first after":  {"QEMU emulator version 9.2.0", "9.2", "reconnect-ms=1000", true},
		"Debian 13":    {"QEMU emulator version 10.1.0 (Debian 1:10.1.0+ds-5)", "10.1", "reconnect-ms=1000", true},
		"forky":        {"QEMU emulator version 11.1.2 (Debian 1:11.1.2+ds-3)", "11.1", "reconnect-ms=1000", false},
		"none":         {"", "unknown", "reconnect-ms=1000", true},
		"garbage":      {"qemu: version seven", "unknown", "reconnect-ms=1000", true},
		"too long":     {"QEMU emulator version 99999999999999999999.2", "unknown", "reconnect-ms=1000", true},
	} {
		t.Run(name, func(t *testing.T) {
			v := ParseVersion(c.line)
			require.Equal(t, c.version, v.String())
			g := Guest{Program: "qemu", Version: v, Socket: "/run/a.sock", MAC: "52:54:00:00:00:01"}
			require.Equal(t, "socket,id=vring,path=/run/a.sock,"+c.reconnect, g.Chardev())
			require.Equal(t, c.noVectors, v.NeedsNoVectors())
			device := "virtio-net-pci,netdev=net,mac=52:54:00:00:00:01"
			withVectors := device
			if c.noVectors {
				device += ",vectors=0"
			}
			require.Equal(t, device, g.Device())
			g.KVM = true
			require.Equal(t, withVectors, g.Device(), "KVM needs no such thing")
		})
	}
}

func TestTheCommandIsWhole(t *testing.T) {
	g := Guest{
		Program: "qemu-system-x86_64", Version: Version{11, 1}, Socket: "/run/a,b.sock", Listen: true, Queues: 2,
		MAC: "52:54:00:00:00:01", KVM: true,
	}
	require.Equal(t, "qemu-system-x86_64 -accel kvm -smp 2 -m 1G -object memory-backend-memfd,id=mem,size=1G,share=on"+
		" -machine q35,memory-backend=mem -chardev socket,id=vring,path=/run/a,,b.sock,server=on,wait=off"+
		" -netdev vhost-user,id=net,chardev=vring,queues=2 -device virtio-net-pci,netdev=net,mac=52:54:00:00:00:01,mq=on ...",
		g.Command())
	g.KVM, g.Queues, g.Listen = false, 1, false
	require.Equal(t, "qemu-system-x86_64 -accel tcg -m 1G -object memory-backend-memfd,id=mem,size=1G,share=on"+
		" -machine q35,memory-backend=mem -chardev socket,id=vring,path=/run/a,,b.sock,reconnect-ms=1000"+
		" -netdev vhost-user,id=net,chardev=vring -device virtio-net-pci,netdev=net,mac=52:54:00:00:00:01 ...",
		g.Command())
}

// Nothing is shared, so the machine is as it is without us.
func TestTheCommandForAStreamFitsTheVersionOfQEMU(t *testing.T) {
	for reconnect, v := range map[string]Version{"": {7, 2}, ",reconnect=1": {8, 0}, ",reconnect-ms=1000": {11, 1}} {
		g := Guest{Program: "qemu", Version: v, Socket: "/run/a,b.sock", MAC: "52:54:00:00:00:01", Stream: true}
		require.Equal(t, "qemu -accel tcg -m 1G -netdev stream,id=net,addr.type=unix,addr.path=/run/a,,b.sock,server=off"+reconnect+
			" -device virtio-net-pci,netdev=net,mac=52:54:00:00:00:01 ...", g.Command())
	}
	g := Guest{Program: "qemu", Socket: "/run/s", Listen: true, KVM: true, MAC: "52:54:00:00:00:01", Stream: true}
	require.Equal(t, "qemu -accel kvm -m 1G -netdev stream,id=net,addr.type=unix,addr.path=/run/s,server=on"+
		" -device virtio-net-pci,netdev=net,mac=52:54:00:00:00:01 ...", g.Command())
}

func TestEachGuestHasAMACAddressOfItsOwnThatStays(t *testing.T) {
	a := MAC("host", "/run/a.sock")
	require.Equal(t, a, MAC("host", "/run/a.sock"))
	require.NotEqual(t, a, MAC("host", "/run/b.sock"))
	require.NotEqual(t, a, MAC("other", "/run/a.sock"))
	mac, err := net.ParseMAC(a)
	require.NoError(t, err)
	require.Equal(t, byte(2), mac[0]&3, "locally administered, and of one station")
}
