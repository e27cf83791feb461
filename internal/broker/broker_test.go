package broker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/undo"
	"github.com/vringnet/vring/tap"
)

// inNamespace moves the test to a network namespace of its own, and with it the processes that it starts. Its thread ends
// with the test.
func inNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("a network namespace for the test: %v; these tests need root", err)
	}
}

// exists tells whether there is an interface of a name.
func exists(name string) bool {
	_, err := netlink.LinkByName(name)
	return err == nil
}

// mtu returns that of an interface.
func mtu(t *testing.T, name string) int {
	link, err := netlink.LinkByName(name)
	require.NoError(t, err)
	return link.Attrs().MTU
}

// asBroker is set in the environment of a child that is to be the broker instead of the tests.
const asBroker = "VRING_TEST_AS_BROKER"

// init keeps the main thread to the main goroutine. A test that moves its thread to a network namespace must not get that
// one: it never ends, and /proc/net would be the namespace's.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if path := os.Getenv(asStranger); path != "" {
		beStranger(path)
		return
	}
	if os.Getenv(asBroker) == "" {
		_ = os.Setenv(asBroker, "1")
		os.Exit(m.Run())
	}
	if err := Run(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// shortDir makes a directory whose path leaves room for a socket's name, which testing's own may not.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "vr")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// listOf is a list of files that were made for somebody.
func listOf(t *testing.T, of undo.Owner, files ...string) *undo.List {
	list := new(undo.List)
	for _, path := range files {
		require.NoError(t, list.AddMade(path, of))
	}
	return list
}

// startBroker starts a broker that ends with the test. It is not in a hurry.
func startBroker(t *testing.T, duties Duties) *Client {
	return startObserved(t, duties, Observer{})
}

// startObserved starts a broker with somebody who is told of it.
func startObserved(t *testing.T, duties Duties, observer Observer) *Client {
	c := NewClient(observer)
	require.NoError(t, c.Start(Program(os.Args[0]), duties))
	c.SetPatience(time.Minute) // on a busy machine
	t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

// openWithBroker opens a TAP device with its broker.
func openWithBroker(t *testing.T, cfg tap.Config) (*tap.Device, *Client) {
	inNamespace(t)
	device, err := tap.Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, device.Close()) })
	list := new(undo.List)
	list.SetDevice(device.Changes())
	broker := startBroker(t, Duties{Configs: []tap.Config{cfg}, Undo: list})
	device.Administrate(broker)
	return device, broker
}

func TestTheBrokerChangesTheDeviceAndUndoesItAll(t *testing.T) {
	device, broker := openWithBroker(t, tap.Config{Name: "tap0", Queues: 1, Bridge: "br0"})
	require.NoError(t, device.Ports()[0].SetMTU(1400))
	require.Equal(t, 1400, mtu(t, "tap0"))
	require.ErrorContains(t, broker.SetMTU("tap0", 17), "MTU 17 is not between")
	require.ErrorContains(t, broker.SetMTU("lo", 1400), `"lo" is not a device that was named at the start`)
	require.NoError(t, broker.Connect("tap0"))
	require.NoError(t, device.Close())
	require.NoError(t, broker.Undo())
	require.False(t, exists("br0"))
}

// A device whose guest goes is undone while others are served, and is nobody's then.
func TestTheBrokerUndoesWhatWasChangedForOneDevice(t *testing.T) {
	device, broker := openWithBroker(t, tap.Config{Name: "tap0", Queues: 1, Bridge: "br0"})
	require.ErrorContains(t, broker.UndoDevice("lo"), `"lo" is not a device that was named at the start`)
	require.True(t, exists("br0"))
	require.NoError(t, device.Close())
	require.NoError(t, broker.UndoDevice("tap0"))
	require.False(t, exists("tap0"))
	require.False(t, exists("br0"))
	require.ErrorContains(t, broker.Connect("tap0"), `"tap0" is not a device that was named at the start`)
	require.ErrorContains(t, broker.UndoDevice("tap0"), `"tap0" is not a device that was named at the start`)
	require.NoError(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	require.NoError(t, broker.Undo())
	require.True(t, exists("br0"), "another's, of the same name")
}

// What is wrong with the file is told once, and that the broker reads it no more is another matter.
func TestAResolvConfThatCannotBeReadIsToldOnce(t *testing.T) {
	for name, started := range map[string]bool{"by the broker": true, "in this process": false} {
		t.Run(name, func(t *testing.T) {
			var told []string
			observer := Observer{Unread: func(reason string) { told = append(told, reason) }}
			path := filepath.Join(t.TempDir(), "resolv.conf")
			c := NewClient(observer)
			if started {
				c = startObserved(t, Duties{Read: path}, observer)
			}
			for range 3 {
				text, err := c.ReadFile(path)
				require.NoError(t, err)
				require.Empty(t, text)
			}
			require.Len(t, told, 1)
			require.Contains(t, told[0], "no such file or directory")
			if started {
				require.NoError(t, c.Undo())
				_, err := c.ReadFile(path)
				require.Error(t, err)
			}
		})
	}
}

// The file is read as it is at that moment, and never more of it than a message holds.
func TestTheBrokerReadsTheConfigurationAndNothingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vring.yaml")
	c := startBroker(t, Duties{Config: path})
	_, err := c.ReadConfig(path)
	require.ErrorContains(t, err, "no such file or directory")
	for _, text := range []string{"nat:\n", strings.Repeat("x", MaxConfig)} {
		require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
		got, err := c.ReadConfig(path)
		require.NoError(t, err)
		require.True(t, text == string(got))
	}
	require.NoError(t, os.Truncate(path, 100<<20))
	got, err := c.ReadConfig(path)
	require.NoError(t, err)
	require.Len(t, got, MaxConfig)
	require.NoError(t, os.Remove(path))
	require.NoError(t, unix.Mkfifo(path, 0o600))
	_, err = c.ReadConfig(path)
	require.ErrorContains(t, err, "is not a regular file")
	_, err = c.ask(request{Verb: verbRead})
	require.ErrorContains(t, err, "nothing like that was named at the start")
	other := startBroker(t, Duties{Read: "/etc/hostname"})
	_, err = other.ask(request{Verb: verbConfig})
	require.ErrorContains(t, err, "nothing like that was named at the start")
}

func TestTheBrokerDialsWhatWasNamedAndNothingElse(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	c := startBroker(t, Duties{Dial: []string{path}})
	require.True(t, c.Dials(path))
	_, err := c.Dial(path)
	require.ErrorContains(t, err, "no such file or directory")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer listener.Close()
	conn, err := c.Dial(path)
	require.NoError(t, err)
	defer conn.Close()
	accepted, err := listener.Accept()
	require.NoError(t, err)
	defer accepted.Close()
	_, err = accepted.Write([]byte("x"))
	require.NoError(t, err)
	var got [1]byte
	_, err = io.ReadFull(conn, got[:])
	require.NoError(t, err)
	_, err = c.ask(request{Verb: verbDial, Socket: 1})
	require.ErrorContains(t, err, "nothing like that was named at the start")
	_, err = c.ask(request{Verb: verbRead})
	require.ErrorContains(t, err, "nothing like that was named at the start")
}

// It removes the sockets that it was told of, and neither another file that has taken the place of one nor what lies beside.
func TestTheBrokerRemovesTheSocketsThatWereMade(t *testing.T) {
	dir := shortDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"made", "replaced"} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at(name), Net: "unix"})
		require.NoError(t, err)
		l.SetUnlinkOnClose(false)
		require.NoError(t, l.Close())
	}
	require.NoError(t, os.WriteFile(at("beside"), nil, 0o600))
	c := startBroker(t, Duties{Undo: listOf(t, undo.OfForward, at("made"), at("replaced"))})
	require.NoError(t, os.Remove(at("replaced")))
	require.NoError(t, os.WriteFile(at("replaced"), nil, 0o600))
	require.NoError(t, c.Undo())
	require.NoFileExists(t, at("made"))
	require.FileExists(t, at("replaced"))
	require.FileExists(t, at("beside"))
}

func TestABrokerThatMeetsAFaultOfItsOwnUndoesWhatWasChanged(t *testing.T) {
	path := filepath.Join(shortDir(t), "made")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	var ends [2]*net.UnixConn
	for i, fd := range pair {
		ends[i], err = SocketOf(os.NewFile(uintptr(fd), "end"))
		require.NoError(t, err)
		defer ends[i].Close()
	}
	_, err = ends[0].Write([]byte(`{"Verb":"bind","Place":{"Proto":6,"Host":"127.0.0.1:8080"}}`))
	require.NoError(t, err)
	p := process{Duties: Duties{Bind: new(Binds)}, list: listOf(t, undo.OfProcess, path)} // nobody has made its binder
	require.Panics(t, func() { _ = p.answer(ends[1]) })
	require.NoFileExists(t, path)
}

// All that it can do is of this process's liking, so it takes one short message at a time, without descriptors, and ends
// when it does not understand one.
func TestTheBrokerEndsWithARequestThatIsNone(t *testing.T) {
	for name, request := range map[string]string{
		"too long": `{"Verb":"read"}` + strings.Repeat(" ", maxRequest), "not JSON": "mtu 1400", "cut": `{"Verb":`,
	} {
		t.Run(name, func(t *testing.T) {
			c := startBroker(t, Duties{Read: "/etc/hostname"})
			first, second := c.expect(), c.expect()
			_, err := c.conn.Write([]byte(request))
			require.NoError(t, err)
			last, err := c.hear(first, time.Minute)
			require.NoError(t, err, "the last answer")
			require.Empty(t, last.Text)
			_, err = c.hear(second, time.Minute)
			require.ErrorContains(t, err, "it has ended")
		})
	}
}

func TestTheBrokerKeepsNoDescriptorThatItIsSent(t *testing.T) {
	c := startBroker(t, Duties{Read: "/etc/hostname"})
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	for range 100 {
		answered := c.expect()
		_, _, err = c.conn.WriteMsgUnix([]byte(`{"Verb":"read"}`), unix.UnixRights(int(w.Fd())), nil)
		require.NoError(t, err)
		_, err = c.hear(answered, time.Minute)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, r.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = r.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "somebody has the other end open")
}

// expect waits for the answer to a request that the test itself sends.
func (c *Client) expect() *waiter {
	w := newWaiter()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, w)
	return w
}

// newSlowBroker returns a client whose broker is the test. Whoever is in a hurry waits for a moment.
func newSlowBroker(t *testing.T) (c *Client, broker *net.UnixConn) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	var ends [2]*net.UnixConn
	for i := range ends {
		ends[i], err = SocketOf(os.NewFile(uintptr(pair[i]), "end"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = ends[i].Close() })
	}
	c = NewClient(Observer{})
	c.hurried, c.patient, c.conn = 50*time.Millisecond, time.Minute, ends[0]
	go c.listen(c.conn)
	return c, ends[1]
}

// next returns the next request's verb and MTU.
func next(t *testing.T, broker *net.UnixConn) (verb string, mtu int) {
	require.NoError(t, broker.SetReadDeadline(time.Now().Add(time.Minute)))
	r, err := nextRequest(broker)
	require.NoError(t, err)
	return r.Verb, r.MTU
}

func TestAWorkersThreadDoesNotWaitForABrokerThatIsLate(t *testing.T) {
	c, broker := newSlowBroker(t)
	require.ErrorIs(t, c.SetMTU("tap0", 1400), os.ErrDeadlineExceeded)
	require.ErrorIs(t, c.SetMTU("tap0", 1401), os.ErrDeadlineExceeded, "nor is it asked")
	_, mtu := next(t, broker)
	require.Equal(t, 1400, mtu)

	asked := make(chan error, 1)
	go func() { _, err := c.ask(request{Verb: verbConfig}); asked <- err }() // by somebody who has time
	verb, _ := next(t, broker)
	require.Equal(t, verbConfig, verb)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	time.Sleep(2 * c.hurried) // which is too long for a worker's thread
	require.NoError(t, pass(broker, int(w.Fd())), "the late answer, which is for nobody")
	require.NoError(t, reply(broker, nil, errors.New("of the second request")))
	require.EqualError(t, <-asked, "of the second request")
	require.NoError(t, w.Close())
	require.NoError(t, r.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = r.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "what came with the late answer is closed")

	c.SetPatience(time.Minute)
	go func() { asked <- c.SetMTU("tap0", 1402) }()
	_, mtu = next(t, broker)
	require.Equal(t, 1402, mtu, "all is answered, and it is asked again")
	require.NoError(t, reply(broker, nil, nil))
	require.NoError(t, <-asked)
}

func TestABrokerThatAnswersWhatNobodyAskedIsGivenUp(t *testing.T) {
	c, broker := newSlowBroker(t)
	require.NoError(t, reply(broker, nil, nil))
	require.Eventually(t, func() bool { // nothing is asked before that came: it would be an answer
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.broken != nil
	}, time.Minute, time.Millisecond)
	require.ErrorIs(t, c.SetMTU("tap0", 1400), errEnded)
}

func TestAllWhoWaitLearnThatTheBrokerHasEnded(t *testing.T) {
	c, broker := newSlowBroker(t)
	asked := make(chan error, 2)
	for range cap(asked) {
		go func() { _, err := c.ask(request{Verb: verbConfig}); asked <- err }()
		next(t, broker)
	}
	require.NoError(t, broker.Close())
	for range cap(asked) {
		require.ErrorIs(t, <-asked, errEnded)
	}
}

func TestTheBrokerDoesNothingWithoutABeginning(t *testing.T) {
	require.NoError(t, serve(strings.NewReader(""), nil), "no duties")
	for _, input := range []string{"{", "mtu 1400\n"} {
		require.Error(t, serve(strings.NewReader(input), nil))
	}
	output, err := exec.Command(os.Args[0]).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(output), "the broker is started by vring itself")
}

func TestABrokerWithoutAProgramIsNotStarted(t *testing.T) {
	for _, start := range []Starter{nil, Program()} {
		c := NewClient(Observer{})
		require.ErrorContains(t, c.Start(start, Duties{Read: "/etc/hostname"}), "its program is missing")
		require.False(t, c.Started())
		require.NoError(t, c.Undo())
	}
}
