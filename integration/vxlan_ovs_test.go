package integration

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/process"
)

// A guest behind vring and a host behind Open vSwitch, with its datapath in a process, are one network by VXLAN.
func TestAGuestReachesAHostBehindOpenVSwitchByVXLAN(t *testing.T) {
	t.Parallel()
	ctx := limited(t)
	one, other := newHost(t), newHost(t)
	one.wire("wire", other)
	one.run("ip address add 203.0.113.1/24 dev wire", "ethtool -K wire tx off") // Open vSwitch would see checksums that are not filled in
	other.startOpenVSwitch()
	d := startVringWith(t, process.Options{Thread: one.Enter}, "switch", "--switch-uplink", "vxlan://203.0.113.2/42")
	a := bootStation(ctx, t, d, 1)
	a.waitPing("192.0.2.3")
	a.requirePing("192.0.2.3", 1400)
	require.Contains(t, d.ctl("uplinks"), "203.0.113.2:4789")
}

// startOpenVSwitch starts Open vSwitch on the host: its own wire leads to a bridge with the address 203.0.113.2, and another bridge, with
// 192.0.2.3, to a VXLAN port.
func (h *host) startOpenVSwitch() {
	h.t.Helper()
	dir := shortDir(h.t)
	in := func(name string) string { return filepath.Join(dir, name) }
	out, err := exec.Command("ovsdb-tool", "create", in("conf.db"), "/usr/share/openvswitch/vswitch.ovsschema").CombinedOutput()
	require.NoError(h.t, err, "%s", out)
	h.background("/usr/sbin/ovsdb-server", in("conf.db"), "--remote=punix:"+in("db.sock"), "--unixctl="+in("db.ctl"), "--log-file="+in("db.log"))
	vsctl := func(args string) { h.run("ovs-vsctl --timeout=30 --db=unix:" + in("db.sock") + " " + args) }
	require.Eventually(h.t, func() bool {
		_, err := h.Run("ovs-vsctl --timeout=30 --db=unix:" + in("db.sock") + " --no-wait init")
		return err == nil
	}, soon, tick)
	h.background("/usr/sbin/ovs-vswitchd", "unix:"+in("db.sock"), "--unixctl="+in("vs.ctl"), "--log-file="+in("vs.log"))
	vsctl("add-br outer -- set bridge outer datapath_type=netdev -- add-port outer wire")
	vsctl("add-br inner -- set bridge inner datapath_type=netdev -- add-port inner vx0 -- " +
		"set interface vx0 type=vxlan options:remote_ip=203.0.113.1 options:local_ip=203.0.113.2 options:key=42")
	for device, address := range map[string]string{"outer": "203.0.113.2", "inner": "192.0.2.3"} {
		h.run(fmt.Sprintf("ip address add %s/24 dev %s", address, device), "ip link set "+device+" up")
	}
}

// background runs a program on the host until the test ends.
func (h *host) background(program string, args ...string) {
	h.t.Helper()
	cmd := exec.Command(program, args...)
	require.NoError(h.t, h.Do(cmd.Start))
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}
