package integration

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/hostile"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// theirAddress is what front ends that mean harm say that their guest has; theirs is the first socket.
var theirAddress = netip.MustParseAddr("10.0.2.15")

// arena is vring with two guests: one whose front ends mean harm, and a bystander, which pings all the time.
type arena struct {
	t      *testing.T
	vring  *daemon
	before holdings // without a front end of the first guest
	pings  int
	worst  time.Duration
	fault  error
	quit   context.CancelFunc
	wg     sync.WaitGroup
}

// newArena starts vring and the bystander.
func newArena(t *testing.T) *arena { return newArenaOf(t, &daemon{t: t}) }

// newArenaOf is newArena with a vring that is started in a certain way, and more arguments for it.
func newArenaOf(t *testing.T, d *daemon, args ...string) *arena {
	socket := filepath.Join(shortDir(t), "bystander.sock")
	a := &arena{t: t, vring: d.startAtSocket("nat", append([]string{"--socket-path", socket}, args...)...)}
	bystander := hostile.New(netip.MustParseAddr("10.0.2.16"))
	require.NoError(t, bystander.Connect(socket))
	var ctx context.Context
	ctx, a.quit = context.WithCancel(t.Context())
	t.Cleanup(func() {
		a.dismiss()
		bystander.Close()
	})
	a.wg.Go(func() { a.stand(ctx, bystander) })
	a.served() // what is allotted once is there
	a.before = a.vring.holdings()
	return a
}

// stand pings until ctx ends.
func (a *arena) stand(ctx context.Context, bystander *hostile.FrontEnd) {
	for ctx.Err() == nil {
		took, err := bystander.Ping(soon)
		if err != nil {
			a.fault = err
			return
		}
		a.pings++
		a.worst = max(a.worst, took)
		time.Sleep(time.Millisecond)
	}
}

// dismiss lets the bystander go.
func (a *arena) dismiss() {
	a.quit()
	a.wg.Wait()
}

// served lets a good front end come and go.
func (a *arena) served() {
	a.t.Helper()
	good := hostile.New(theirAddress)
	defer good.Close()
	require.True(a.t, assertEventually(func() bool { return good.Connect(a.vring.Socket) == nil }), "the next front end is not served")
	_, err := good.Ping(soon)
	require.NoError(a.t, err)
}

// requireUnharmed proves that the next front end is served, that vring holds no more than before, and that the bystander
// has noticed nothing.
func (a *arena) requireUnharmed() {
	a.t.Helper()
	a.served()
	a.vring.requireNoLeak(a.before)
	a.dismiss()
	require.NoError(a.t, a.fault, "the bystander")
	require.Positive(a.t, a.pings)
	a.t.Logf("the bystander had %d answers, the slowest after %v", a.pings, a.worst)
}

// attack brings a front end up, lets it do harm, and hangs up.
func (a *arena) attack(do func(f *hostile.FrontEnd)) {
	a.t.Helper()
	f := hostile.New(theirAddress)
	defer f.Close()
	require.True(a.t, assertEventually(func() bool { return f.Connect(a.vring.Socket) == nil }))
	do(f)
}

const floodTime = 100 * time.Millisecond

func TestFrontEndsThatMeanHarm(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(f *hostile.FrontEnd){
		"hang up at full rate": func(f *hostile.FrontEnd) { f.Flood(floodTime) },
		"cut all memory short at full rate": func(f *hostile.FrontEnd) {
			f.Flood(floodTime)
			f.Memory.Truncate(0)
			kickFor(f, floodTime)
		},
		"cut the buffers off at full rate": func(f *hostile.FrontEnd) {
			f.Flood(floodTime)
			f.Memory.Truncate(64 << 10) // the rings stay
			kickFor(f, floodTime)
		},
		"fill the eventfds and make them block": func(f *hostile.FrontEnd) {
			f.FillCalls()
			f.Flood(floodTime)
		},
		"let the index run away": func(f *hostile.FrontEnd) {
			f.Flood(floodTime)
			f.Transmit.RawAvailIdx(0, 12345)
			kickFor(f, floodTime)
		},
		"move the index backwards": func(f *hostile.FrontEnd) {
			f.Flood(floodTime)
			f.Transmit.RawAvailIdx(0, f.Transmit.UsedIdx()-1)
			kickFor(f, floodTime)
		},
		"never read a reply": func(f *hostile.FrontEnd) {
			get := (&wire.Message{Request: wire.GetFeatures}).Append(nil)
			for f.Write(get) == nil {
			}
		},
		"begin a message and stall": func(f *hostile.FrontEnd) {
			_ = f.Write([]byte{1, 0})
			time.Sleep(floodTime)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newArena(t)
			for range 3 {
				a.attack(harm)
			}
			a.requireUnharmed()
		})
	}
}

// kickFor kicks both rings for some time.
func kickFor(f *hostile.FrontEnd, d time.Duration) {
	for deadline := time.Now().Add(d); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		f.Kick(hostile.TransmitRing)
		f.Kick(hostile.ReceiveRing)
	}
}

func TestAThousandFrontEndsComeAtOnce(t *testing.T) {
	a := newArena(t)
	var open []net.Conn
	for range 1000 {
		conn, err := net.Dial("unix", a.vring.Socket)
		require.NoError(t, err)
		open = append(open, conn)
	}
	for _, conn := range open {
		require.NoError(t, conn.Close())
	}
	a.requireUnharmed()
}

// A file system without room has no page for what vring writes.
func TestMemoryOnAFullFileSystem(t *testing.T) {
	dir := shortDir(t)
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	a := newArena(t)
	for i := range 3 {
		f := hostile.NewOn(fileMemory(t, filepath.Join(dir, "memory")), theirAddress)
		require.True(t, assertEventually(func() bool { return f.Connect(a.vring.Socket) == nil }))
		_, err := f.Ping(soon) // so that the rings have their pages
		require.NoError(t, err)
		fill, err := os.Create(filepath.Join(dir, "fill"))
		require.NoError(t, err)
		for err == nil {
			_, err = fill.Write(make([]byte, 4096))
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
		given := func() int { return strings.Count(a.vring.Output(), "front end given up") }
		require.True(t, assertEventually(func() bool { // until an answer finds no memory
			_, _ = f.Ping(time.Second)
			return given() > i
		}))
		require.Equal(t, i+1, given())
		f.Close()
		require.NoError(t, fill.Close())
		require.NoError(t, os.Remove(fill.Name()))
	}
	a.requireUnharmed()
}

// fileMemory is the memory of a guest in a file that is longer than what the file system holds.
func fileMemory(t *testing.T, path string) *vqtest.Memory {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC, 0o600)
	require.NoError(t, err)
	require.NoError(t, unix.Ftruncate(fd, hostile.MemorySize))
	return vqtest.NewFileMemory(fd, hostile.MemorySize)
}

// offer connects and sends a memory table of one file.
func offer(t *testing.T, socket string, file *os.File) *frontend.Conn {
	fe, err := frontend.Dial(socket)
	require.NoError(t, err)
	t.Cleanup(func() { fe.Close() })
	_, err = fe.GetFeatures() // it is being served
	require.NoError(t, err)
	region := guestmem.Region{GPA: 0x1000, UVA: 0x1000, Size: 1 << 20, FD: int(file.Fd())}
	require.NoError(t, fe.SetMemTable([]guestmem.Region{region}))
	return fe
}

func TestMemoryOnFUSEIsRefused(t *testing.T) {
	a := newArena(t)
	fuse, err := hostile.MountFUSE(shortDir(t))
	require.NoError(t, err)
	defer fuse.Close()
	_, err = offer(t, a.vring.Socket, fuse.File).GetFeatures()
	require.Error(t, err)
	a.vring.waitOutput("is on a file system (type 0x65735546) that may stall us")
	a.requireUnharmed()
}

// To look at a file on FUSE is to wait for an answer. One that never comes holds up this front end's session, and the next
// one of this guest; not the bystander. vring gives up when it is told to end, but the kernel lets a process that waits so
// end only with the file system.
func TestMemoryOnFUSEThatAnswersNothing(t *testing.T) {
	a := newArena(t)
	fuse, err := hostile.MountFUSE(shortDir(t))
	require.NoError(t, err)
	fuse.FallSilent()
	fe := offer(t, a.vring.Socket, fuse.File)
	time.Sleep(floodTime)
	require.NoError(t, fe.Close())
	fuse.Close()
	a.requireUnharmed()

	fuse, err = hostile.MountFUSE(shortDir(t))
	require.NoError(t, err)
	fuse.FallSilent()
	offer(t, a.vring.Socket, fuse.File)
	time.Sleep(floodTime)
	require.NoError(t, a.vring.Signal(syscall.SIGTERM))
	a.vring.waitOutput("holds its session up")
	fuse.Close()
	var exit *exec.ExitError
	require.ErrorAs(t, a.vring.Wait(soon), &exit, "the exit status tells")
	a.vring.ended()
}

// floodVariable names the socket for a process that is to be killed.
const floodVariable = "VRING_TEST_FLOOD"

// floodForever is the life of a front end that another process kills.
func floodForever(socket string) {
	f := hostile.New(theirAddress)
	if err := f.Connect(socket); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("up")
	for {
		f.Flood(time.Second)
	}
}

func TestAFrontEndIsKilledAtFullRate(t *testing.T) {
	a := newArena(t)
	for range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), floodVariable+"="+a.vring.Socket)
		p, err := process.Start(t.Context(), cmd, process.Options{})
		require.NoError(t, err)
		require.Eventually(t, func() bool { return strings.Contains(p.Output(), "up") }, soon, 5*time.Millisecond)
		time.Sleep(floodTime)
		require.NoError(t, p.Kill())
		a.served()
	}
	a.requireUnharmed()
}

// The data path waits in a write to an eventfd of the front end. That must not keep vring from ending.
func TestVringEndsThoughAFrontEndHoldsItUp(t *testing.T) {
	a := newArena(t)
	a.dismiss()
	a.attack(func(f *hostile.FrontEnd) {
		f.FillCalls()
		f.Flood(floodTime)
		require.NoError(t, a.vring.Signal(syscall.SIGTERM))
		select {
		case <-a.vring.Done():
		case <-time.After(soon):
			t.Error("vring does not end")
		}
	})
	a.vring.ended()
}

// vring has one connection, which it inherited, and a front end at its end that does nothing.
func TestAFrontEndOnAnInheritedConnectionIsStuck(t *testing.T) {
	for name, c := range map[string]struct {
		sent string
		fine bool // vring ends well on SIGTERM; otherwise it gives the front end up by itself
	}{
		"and silent":                {"", true},
		"within a message":          {"\x01\x00", false},
		"and reads none of replies": {strings.Repeat("\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00", 50000), false},
	} {
		t.Run(name, func(t *testing.T) {
			ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			require.NoError(t, err)
			inherited := os.NewFile(uintptr(ends[1]), "front end")
			d := &daemon{t: t, inherited: []*os.File{inherited}, args: []string{"stub", "--fd", "3"}}
			d.start()
			require.NoError(t, inherited.Close())
			defer unix.Close(ends[0])
			go func() {
				for b := []byte(c.sent); len(b) > 0; {
					n, err := unix.Write(ends[0], b)
					if err != nil {
						return
					}
					b = b[n:]
				}
			}()
			if c.fine {
				time.Sleep(floodTime)
				d.terminate()
				return
			}
			var exit *exec.ExitError
			require.ErrorAs(t, d.Wait(soon), &exit, "the exit status tells")
			require.Contains(t, d.Output(), "front end given up")
		})
	}
}
