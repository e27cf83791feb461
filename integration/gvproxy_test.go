package integration

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/qemu"
	"github.com/vringnet/vring/integration/lab/userland"
)

// gvproxyGuest is where podman's guest is, which gvproxy tells by this MAC address.
const gvproxyGuest, gvproxyMAC = "192.168.127.2", "5a:94:ef:e4:0c:ee"

// podman machine starts gvproxy, and QEMU on its socket. The guest's podman then opens ports of the host by the API that it reaches at a name of the
// gateway, and the host's podman by a unix socket. With the guest ends what was started for it.
func TestAGuestOfPodmanMachineOpensAPortOfTheHost(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	program, api, socket, pid := filepath.Join(dir, "gvproxy"), filepath.Join(dir, "api"), filepath.Join(dir, "qemu"), filepath.Join(dir, "pid")
	require.NoError(t, os.Symlink(built.vring, program))
	l := &lab{t: t, ctx: limited(t), kind: onQEMU(userland.Forky), tcp: serveTCP(t, labBytes), forwardTCP: freePort(t)}
	vring, err := process.Start(l.ctx, exec.Command(program, "-mtu", "1500", "-ssh-port", strconv.Itoa(freePort(t)), "-listen", "unix://"+api,
		"-listen-qemu", "unix://"+socket, "-pid-file", pid, "-guest-api"), process.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, vring.Kill()) })
	require.Eventually(t, func() bool { _, err := os.Stat(socket); return err == nil }, soon, tick, "%s", vring.Output())
	l.guest = startQEMU(l.ctx, t, qemu.Options{
		Userland: l.kind.userland, Initrd: imageWithCurl(t, l.kind.userland), Netdev: qemu.StreamNetdev(l.kind.userland, socket),
		Device: []string{"mac=" + gvproxyMAC},
	})
	require.Equal(t, gvproxyGuest+"/24", l.boot().Address)
	var got proto.Transfer
	l.do(&got, "tcp-dial", net.JoinHostPort("192.168.127.254", strconv.Itoa(l.tcp.Port)), labBytes, guestSeed)
	requirePattern(t, hostSeed, labBytes, got)
	requirePattern(t, guestSeed, labBytes, l.tcp.next(l.ctx, t))

	// A remote address without a host is the guest that asks.
	var out proto.Text
	require.NoError(t, l.start(fmt.Sprintf(`curl -sS -w %%{http_code} -d {"local":"127.0.0.1:%d","remote":":%d"} http://gateway.containers.internal/services/forwarder/expose`,
		l.forwardTCP, guestTCPPort)).Wait(l.ctx, &out))
	require.Equal(t, "200", strings.TrimSpace(out.Text))
	l.transferIn()

	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", api)
	}}}
	defer client.CloseIdleConnections()
	answer, err := client.Post("http://gvproxy/services/forwarder/unexpose", "application/json",
		strings.NewReader(fmt.Sprintf(`{"local":"127.0.0.1:%d"}`, l.forwardTCP)))
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
	_, err = net.Dial("tcp4", local(l.forwardTCP))
	require.Error(t, err, "the port is closed again")

	require.NoError(t, l.guest.qemu.QMP.Quit())
	require.NoError(t, vring.Wait(soon), "%s", vring.Output())
	require.NoFileExists(t, pid)
}

// imageWithCurl makes the image of a guest that has curl.
func imageWithCurl(t *testing.T, u userland.Userland) string {
	modules, err := guest.KernelModules(u)
	require.NoError(t, err)
	curl, err := guest.FindTool("curl")
	require.NoError(t, err)
	file := filepath.Join(shortDir(t), "image")
	require.NoError(t, guest.Image{Init: built.init, Modules: modules, Programs: []string{curl}}.Write(file))
	return file
}
