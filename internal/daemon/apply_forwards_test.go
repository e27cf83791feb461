package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// setForwards gives a configuration forwards.
func setForwards(t *testing.T, c *Config, texts ...string) {
	t.Helper()
	c.NAT.Forwards = nil
	for _, text := range texts {
		f, err := spec.ParseForward(text)
		require.NoError(t, err)
		c.NAT.Forwards = append(c.NAT.Forwards, f)
	}
}

// takes reports whether a port or a unix socket takes a connection. A guest that is not there has it reset.
func takes(t *testing.T, network, at string) bool {
	t.Helper()
	c, err := net.DialTimeout(network, at, time.Minute)
	switch {
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		return false
	case errors.Is(err, unix.ECONNRESET):
		return true
	}
	require.NoError(t, err)
	require.NoError(t, c.Close())
	return true
}

// openDescriptors counts the descriptors of this process.
func openDescriptors(t *testing.T) int {
	files, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(files)
}

func TestForwardsOfAllKindsComeAndGo(t *testing.T) {
	d, config := openedNAT(t, 2)
	host, path := porttest.FreePort(t), filepath.Join(shortDir(t), "s")
	second := porttest.FreePort(t)
	before := openDescriptors(t)
	udp := func() bool { // a port that is not bound refuses datagrams
		c, err := net.Dial("udp4", host.String())
		require.NoError(t, err)
		defer c.Close()
		_, err = c.Write([]byte("x"))
		require.NoError(t, err)
		_, err = c.Write([]byte("x"))
		return err == nil
	}
	for range 3 {
		setForwards(t, &config, host.String()+":80", "udp:"+host.String()+":53", "unix:"+path+":80", second.String()+":10.0.2.16:80")
		done, err := d.Apply(config)
		require.NoError(t, err)
		require.Equal(t, []string{"NAT.Forwards"}, pathsOf(done.Changed))
		require.Empty(t, done.Gaps)
		require.Empty(t, done.Waiting)
		require.True(t, takes(t, "tcp4", host.String()))
		require.True(t, takes(t, "tcp4", second.String()))
		require.True(t, takes(t, "unix", path))
		require.True(t, udp())
		require.Len(t, d.guests[0].engine().Forwards(), 3)
		require.Len(t, d.guests[1].engine().Forwards(), 1)
		require.Equal(t, config, d.Config())

		setForwards(t, &config)
		_, err = d.Apply(config)
		require.NoError(t, err)
		require.False(t, takes(t, "tcp4", host.String()))
		require.False(t, takes(t, "unix", path))
		require.False(t, udp())
		require.NoFileExists(t, path)
	}
	require.Eventually(t, func() bool { return openDescriptors(t) <= before }, time.Minute, time.Millisecond)
}

// A socket that stays is the same one: what the kernel knows of it does not change.
func TestForwardsThatStayAreNotTouched(t *testing.T) {
	d, config := openedNAT(t, 1)
	kept, other := porttest.FreePort(t), porttest.FreePort(t)
	setForwards(t, &config, kept.String()+":80", "127.0.0.3:7000-7002:7000-7002")
	_, err := d.Apply(config)
	require.NoError(t, err)
	inodes := map[string]string{}
	for _, port := range []uint16{kept.Port(), 7000, 7001} {
		inodes[fmt.Sprint(port)] = inodeOf(t, port)
	}
	setForwards(t, &config, "127.0.0.3:7000-7001:7000-7001", other.String()+":80", kept.String()+":80")
	_, err = d.Apply(config)
	require.NoError(t, err)
	for _, port := range []uint16{kept.Port(), 7000, 7001} {
		require.Equal(t, inodes[fmt.Sprint(port)], inodeOf(t, port))
	}
	require.False(t, takes(t, "tcp4", "127.0.0.3:7002"))
}

// inodeOf is the inode of the socket that listens on a port of IPv4.
func inodeOf(t *testing.T, port uint16) string {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	require.NoError(t, err)
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) > 9 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) && f[3] == "0A" {
			return f[9]
		}
	}
	require.Fail(t, "nobody listens", "on port %d", port)
	return ""
}

func TestAForwardThatTakesThePlaceOfAnotherLeavesAGapThatIsTold(t *testing.T) {
	host, path := porttest.FreePort(t), filepath.Join(shortDir(t), "s")
	for name, c := range map[string]struct{ before, after string }{
		"all addresses":         {host.String() + ":80", fmt.Sprintf("0.0.0.0:%d:80", host.Port())},
		"one address":           {fmt.Sprintf("udp:0.0.0.0:%d:80", host.Port()), fmt.Sprintf("udp:%s:80", host)},
		"another port":          {host.String() + ":80", host.String() + ":81"},
		"another guest":         {host.String() + ":10.0.2.15:80", host.String() + ":10.0.2.16:80"},
		"a gate":                {host.String() + ":80", "gate:" + host.String() + ":80"},
		"another unix socket":   {"unix:" + path + ":80", "unix:" + path + ":81"},
		"a header of the proxy": {host.String() + ":80", "send-proxy:" + host.String() + ":80"},
	} {
		t.Run(name, func(t *testing.T) {
			d, config := openedNAT(t, 2)
			setForwards(t, &config, c.before)
			_, err := d.Apply(config)
			require.NoError(t, err)
			before := config.NAT.Forwards[0]
			setForwards(t, &config, c.after)
			done, err := d.Apply(config)
			require.NoError(t, err)
			require.Len(t, done.Gaps, 1)
			require.Equal(t, before, done.Gaps[0].Forward)
			require.Positive(t, done.Gaps[0].For)
			forwards := append(d.guests[0].engine().Forwards(), d.guests[1].engine().Forwards()...)
			require.Equal(t, config.NAT.Forwards, forwards)
		})
	}
}

func TestForwardsThatCannotAllBeHadAreAsBefore(t *testing.T) {
	d, config := openedNAT(t, 2)
	kept, moved, free, taken := porttest.FreePort(t), porttest.FreePort(t), porttest.FreePort(t), porttest.FreePort(t)
	other, err := net.Listen("tcp4", taken.String())
	require.NoError(t, err)
	defer other.Close()
	setForwards(t, &config, kept.String()+":80", moved.String()+":81")
	_, err = d.Apply(config)
	require.NoError(t, err)
	before := openDescriptors(t)
	for _, wanted := range [][]string{
		{kept.String() + ":80", free.String() + ":80", taken.String() + ":80"},
		{kept.String() + ":80", fmt.Sprintf("0.0.0.0:%d:81", moved.Port()), taken.String() + ":80"},
		{taken.String() + ":80"},
	} {
		setForwards(t, &config, wanted...)
		config.Threads.Poll = time.Millisecond
		done, err := d.Apply(config)
		bind := new(forward.BindError)
		require.ErrorAs(t, err, &bind)
		require.Equal(t, taken, bind.Host)
		require.Empty(t, done.Changed)
		require.Empty(t, done.Gaps, "nothing that is open was touched")
		require.Zero(t, d.guests[0].device.Poll())
		require.True(t, takes(t, "tcp4", kept.String()))
		require.True(t, takes(t, "tcp4", moved.String()))
		require.False(t, takes(t, "tcp4", free.String()))
		require.Len(t, d.Config().NAT.Forwards, 2)
		require.Eventually(t, func() bool { return openDescriptors(t) <= before }, time.Minute, time.Millisecond)
	}
}

// The new port can be had only after the old one is closed, and then it cannot: somebody has it at another address.
func TestAForwardThatHadToMakeRoomInVainIsBack(t *testing.T) {
	d, config := openedNAT(t, 2)
	host := porttest.FreePort(t)
	blocker, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.9:%d", host.Port()))
	require.NoError(t, err)
	defer blocker.Close()
	setForwards(t, &config, host.String()+":80")
	_, err = d.Apply(config)
	require.NoError(t, err)
	before := d.Config()
	setForwards(t, &config, fmt.Sprintf("0.0.0.0:%d:80", host.Port()))
	done, err := d.Apply(config)
	require.ErrorAs(t, err, new(*forward.BindError))
	require.Empty(t, done.Changed)
	require.Len(t, done.Gaps, 1)
	require.Empty(t, done.Lost)
	require.Equal(t, before, d.Config())
	require.True(t, takes(t, "tcp4", host.String()))
	require.Equal(t, before.NAT.Forwards, d.guests[0].engine().Forwards())
}

func TestForwardsThatAreWrongChangeNothing(t *testing.T) {
	d, config := openedNAT(t, 1)
	host := porttest.FreePort(t)
	for _, c := range []struct {
		wanted []string
		fault  string
	}{
		{[]string{host.String() + ":80", host.String() + ":81"}, "both want port"},
		{[]string{host.String() + ":80", host.String() + ":10.0.2.99:81"}, "no guest has the address 10.0.2.99"},
		{[]string{host.String() + ":80", "127.0.0.1:1:192.0.2.1:80"}, "192.0.2.1 is no guest's address"},
	} {
		setForwards(t, &config, c.wanted...)
		done, err := d.Apply(config)
		require.ErrorContains(t, err, c.fault)
		require.Zero(t, done)
		require.False(t, takes(t, "tcp4", host.String()))
		require.Empty(t, d.Config().NAT.Forwards)
	}
}

// The clock is that of this machine, so the fastest of several changes counts.
func TestAForwardIsThereWithinTenMilliseconds(t *testing.T) {
	d, config := openedNAT(t, 2)
	host := porttest.FreePort(t)
	fastest := time.Hour
	for begun := time.Now(); fastest > 10*time.Millisecond && time.Since(begun) < time.Minute; {
		setForwards(t, &config, host.String()+":80")
		start := time.Now()
		_, err := d.Apply(config)
		fastest = min(fastest, time.Since(start))
		require.NoError(t, err)
		setForwards(t, &config)
		_, err = d.Apply(config)
		require.NoError(t, err)
	}
	require.Less(t, fastest, 10*time.Millisecond)
}

func TestSeveralCallersChangeForwards(t *testing.T) {
	d, config := openedNAT(t, 2)
	var ports []netip.AddrPort
	for range 4 {
		ports = append(ports, porttest.FreePort(t))
	}
	before := openDescriptors(t)
	var callers sync.WaitGroup
	for i := range ports {
		callers.Go(func() {
			for n := range 50 {
				c := d.Config()
				setForwards(t, &c, ports[(i+n)%4].String()+":80", ports[(i+n+1)%4].String()+":10.0.2.16:81")
				_, err := d.Apply(c)
				require.NoError(t, err)
			}
		})
	}
	callers.Wait()
	forwards := append(d.guests[0].engine().Forwards(), d.guests[1].engine().Forwards()...)
	require.ElementsMatch(t, d.Config().NAT.Forwards, forwards)
	setForwards(t, &config)
	_, err := d.Apply(config)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return openDescriptors(t) <= before }, time.Minute, time.Millisecond)
}
