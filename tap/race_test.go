package tap_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/vringnet/vring/tap"
)

// asRacer makes a process of the tests one that opens and closes a TAP device: its name, how often, the name of a bridge
// or "-", and whether to check that the device is a port of the bridge.
const asRacer = "VRING_TEST_RACER"

func TestMain(m *testing.M) {
	if text := os.Getenv(asRacer); text != "" {
		if err := race(text); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// race opens a device as often as it is told. It says when it is ready, and begins with a line of input. Without a bridge
// it keeps the device until its input ends.
func race(text string) error {
	cfg := tap.Config{Queues: 2}
	var rounds int
	var check bool
	if _, err := fmt.Sscan(text, &cfg.Name, &rounds, &cfg.Bridge, &check); err != nil {
		return err
	}
	cfg.Bridge = strings.TrimPrefix(cfg.Bridge, "-")
	fmt.Println("ready")
	input := bufio.NewReader(os.Stdin)
	if _, err := input.ReadString('\n'); err != nil {
		return err
	}
	for range rounds {
		if err := openOnce(cfg, check, input); err != nil {
			return err
		}
	}
	return nil
}

func openOnce(cfg tap.Config, check bool, input io.Reader) error {
	d, err := tap.Open(cfg)
	if err != nil {
		return err
	}
	changes := d.Changes()
	switch {
	case cfg.Bridge == "":
		fmt.Println("open")
		_, err = io.Copy(io.Discard, input)
	case check:
		err = checkPort(cfg)
	}
	return errors.Join(err, d.Close(), changes.Undo())
}

// checkPort checks that the device is a port of the bridge, which is there.
func checkPort(cfg tap.Config) error {
	time.Sleep(time.Millisecond) // a bridge that is removed too early is removed by now
	port, err := netlink.LinkByName(cfg.Name)
	if err != nil {
		return err
	}
	bridge, err := netlink.LinkByName(cfg.Bridge)
	if err != nil {
		return err
	}
	if port.Attrs().MasterIndex != bridge.Attrs().Index {
		return fmt.Errorf("%s is no port of %s", cfg.Name, cfg.Bridge)
	}
	return nil
}

// racer is a process that races.
type racer struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startRacers starts processes in the test's namespace, and lets them go at once.
func startRacers(t *testing.T, texts ...string) (all []racer) {
	for _, text := range texts {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), asRacer+"="+text)
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		all = append(all, racer{cmd, in, bufio.NewReader(out)})
	}
	for _, r := range all {
		line, err := r.out.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "ready\n", line)
	}
	for _, r := range all {
		_, err := io.WriteString(r.in, "\n")
		require.NoError(t, err)
	}
	return all
}

// Each of them makes the bridge, finds that of the other one, or removes it while the other one joins.
func TestProcessesThatShareABridgeDoNotMindEachOther(t *testing.T) {
	inNamespace(t)
	var texts []string
	for i := range 3 {
		texts = append(texts, fmt.Sprintf("tap%d 15 br0 true", i))
	}
	racers := startRacers(t, texts...)
	for _, r := range racers {
		output, err := io.ReadAll(r.out)
		require.NoError(t, err)
		require.Empty(t, string(output))
		require.NoError(t, r.Wait())
	}
	require.True(t, gone("br0"), "the last one removes the bridge")
}

// Scripts make bridges without asking anybody. Here a bridge gets and loses the name, which is as good and faster.
func TestABridgeThatAnotherProgramMakesAtTheSameTimeIsJoined(t *testing.T) {
	inNamespace(t)
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br1"}}
	require.NoError(t, netlink.LinkAdd(bridge))
	race := func() (made int) {
		racer := startRacers(t, "tap0 30 br0 false")[0]
		output := make(chan string, 1)
		go func() {
			text, _ := io.ReadAll(racer.out)
			output <- string(text)
		}()
		for {
			select {
			case text := <-output:
				require.Empty(t, text)
				require.NoError(t, racer.Wait())
				return made
			default:
			}
			if netlink.LinkSetName(bridge, "br0") == nil {
				made++
				require.NoError(t, netlink.LinkSetName(bridge, "br1"))
			}
		}
	}
	eventually(t, "this process never had its turn while the other one was at it", func() bool { return race() > 0 })
}

// With several queues, the kernel would let both have some of one device.
func TestADeviceServesOneProcess(t *testing.T) {
	inNamespace(t)
	for range 3 {
		racers := startRacers(t, "tap0 1 - false", "tap0 1 - false")
		var opened, refused int
		for _, r := range racers {
			line, err := r.out.ReadString('\n')
			require.NoError(t, err)
			switch {
			case line == "open\n":
				opened++
			case strings.Contains(line, "TAP device tap0 is used by another process"):
				refused++
			default:
				t.Fatal(line)
			}
		}
		require.Equal(t, []int{1, 1}, []int{opened, refused})
		for _, r := range racers {
			require.NoError(t, r.in.Close())
			_ = r.Wait()
		}
	}
}
