package adb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/vringnet/vring/bench/testbed"
	"github.com/vringnet/vring/integration/lab/process"
)

// commandLimit bounds a command of adb.
const commandLimit = 10 * time.Second

// adbServer is the daemon of adb on the host, apart from any other: its port and its home are its own.
type adbServer struct {
	*process.Process
	tools tools
	port  int
}

// startADB starts a server in the foreground and waits until it listens.
func startADB(ctx context.Context, t tools, port int) (*adbServer, error) {
	a := &adbServer{tools: t, port: port}
	p, err := testbed.Launch(ctx, a.command(ctx, "nodaemon", "server"), func(*process.Process) bool {
		conn, err := net.Dial("tcp", loopback(port))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	a.Process = p
	return a, err
}

func (a *adbServer) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, a.tools.adb, append([]string{"-P", strconv.Itoa(a.port)}, args...)...)
	// It is not to look for emulators on the ports from 5555 on, nor for anything on USB or in the network.
	cmd.Env = append(os.Environ(), "HOME="+a.tools.dir, "TMPDIR="+a.tools.dir, "ADB_LOCAL_TRANSPORT_MAX_PORT=5554",
		"ADB_USB=0", "ADB_MDNS=0")
	return cmd
}

// do runs a command of adb.
func (a *adbServer) do(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	out, err := a.command(ctx, args...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "failed") || strings.Contains(string(out), "cannot") {
		return errors.Join(fmt.Errorf("adb %s: %s", strings.Join(args, " "), strings.TrimSpace(string(out))), err)
	}
	return nil
}

// reach connects to the adbd at a port of the host, and forwards ports of the host to ports of its device.
func (a *adbServer) reach(ctx context.Context, adbdPort int, forwards map[int]int) error {
	device := loopback(adbdPort)
	if err := a.do(ctx, "connect", device); err != nil {
		return err
	}
	for here, there := range forwards {
		err := a.do(ctx, "-s", device, "forward", fmt.Sprintf("tcp:%d", here), fmt.Sprintf("tcp:%d", there))
		if err != nil {
			return err
		}
	}
	return nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
