package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/porttest"
)

// keepsState is vring serve with a state, which is started again and again.
type keepsState struct {
	*reloaded
	state string // path
}

func startKeeping(t *testing.T, file string) *keepsState {
	dir := shortDir(t)
	k := &keepsState{&reloaded{t: t, dir: dir, path: filepath.Join(dir, "vring.yaml")}, filepath.Join(dir, "state")}
	k.write(file)
	k.start()
	return k
}

// start starts vring, and returns when it is ready.
func (k *keepsState) start() {
	k.Cmd = program(k.t, "serve", k.path)
	stderr, err := k.StderrPipe()
	require.NoError(k.t, err)
	require.NoError(k.t, k.Start())
	k.lines = bufio.NewScanner(stderr)
	requireLine(k.t, k.lines, "msg=ready")
}

// end waits until vring has ended, and all processes of it.
func (k *keepsState) end() error {
	for k.lines.Scan() {
	}
	return k.Wait()
}

// again starts vring again, which has said what is found in the lines up to the one that it is ready.
func (k *keepsState) again(want ...string) {
	k.t.Helper()
	k.Cmd = program(k.t, "serve", k.path)
	stderr, err := k.StderrPipe()
	require.NoError(k.t, err)
	require.NoError(k.t, k.Start())
	k.lines = bufio.NewScanner(stderr)
	text := ""
	for !strings.Contains(text, "msg=ready") {
		require.True(k.t, k.lines.Scan(), text)
		text += k.lines.Text() + "\n"
	}
	for _, line := range want {
		require.Contains(k.t, text, line)
	}
}

func (k *keepsState) ctl() *controlled {
	return &controlled{t: k.t, control: filepath.Join(k.dir, "s.ctl")}
}

// kept is the state as its file has it.
func (k *keepsState) kept() *configfile.State {
	text, err := os.ReadFile(k.state)
	require.NoError(k.t, err)
	s, err := configfile.ParseState(k.state, text)
	require.NoError(k.t, err, "%s", text)
	return s
}

// What was changed is there after a restart, until it is saved or a reload drops it.
func TestWhatIsChangedIsThereAfterARestart(t *testing.T) {
	const file = "guests: [{socket-path: DIR/s}, {socket-path: DIR/own, name: own, nat: {network: 10.9.0.0/24, dns: [192.0.2.53]}}]\nstate: DIR/state\nnat:\n  dns: [192.0.2.53]\n"
	k := startKeeping(t, file)
	require.True(t, k.kept().Empty())
	c, port := k.ctl(), porttest.FreePort(t).Port()
	forward := fmt.Sprintf("tcp:127.0.0.1:%d:80", port)
	later := filepath.Join(k.dir, "later.yaml")
	require.NoError(t, os.WriteFile(later, []byte("name: later\nsocket-path: "+k.dir+"/later\nstub:\n"), 0o600))
	c.requireCtl("forward", "add", forward)
	c.requireCtl("policy", "replace", "--guest", "own", "--deny", "192.168.0.0/16")
	c.requireCtl("log-level", "debug")
	c.requireCtl("guest", "add", later)
	c.requireCtl("link", "later", "down")
	before := c.requireCtl("config", "diff")
	require.Contains(t, before, "kept for the next start in "+k.state)
	require.Contains(t, c.requireCtl("status"), "changes are kept in "+k.state)
	require.NoError(t, k.Process.Kill())
	require.Error(t, k.end())

	k.again("msg=\"changed before, and kept\" state="+k.state+" key=forwards added="+forward, "guest=later link=down")
	require.Equal(t, before, c.requireCtl("config", "diff"))
	require.Equal(t, "link down\n", c.requireCtl("link", "later"))
	requireListens(t, port, true)
	k.stop()

	// The file was edited: it wins in what was edited, and in nothing else.
	k.write(strings.Replace(file, "dns: [192.0.2.53]}", "dns: [192.0.2.53], rules: [{deny: 10.0.0.0/8}]}", 1))
	k.again(`msg="what was changed before does not count any more" state=`+k.state+` reason="it is not any more what it was changed from" key="own: rules" added="deny: 192.168.0.0/16"`, "added="+forward)
	require.NotContains(t, c.requireCtl("config", "diff"), "192.168.0.0/16")
	c.requireCtl("config", "save")
	require.Empty(t, k.kept().Changed)
	require.Empty(t, k.kept().Added)
	require.Equal(t, []string{"later"}, k.kept().LinksDown, "which the file cannot say")
	c.requireCtl("link", "later", "up")
	require.True(t, k.kept().Empty())

	// A reload drops what the file does not say, from the state, too.
	c.requireCtl("log-level", "warn")
	require.Len(t, k.kept().Changed, 1)
	require.Contains(t, c.requireCtl("reload"), "what was changed here goes back")
	require.True(t, k.kept().Empty())
	k.stop()
}

// What was kept and cannot be begun with ends the start, with what to do: without it, guests could go where they were not to go.
func TestAStateThatCannotBeUsedEndsTheStart(t *testing.T) {
	dir := shortDir(t)
	state := filepath.Join(dir, "state")
	args := []string{"nat", "--socket-path", filepath.Join(dir, "s"), "--sandbox", "off", "--dns", "192.0.2.53", "--state", state}
	const change = "version: 1\nchanged: [{key: forwards, was: [], is: [%q]}]\nwhole: true\n"
	for text, want := range map[string]string{
		"garbage": "want keys with values",
		"version: 1\nchanged: [{key: restrict, was: false":                    "could not find flow mapping end token", // half of it
		"version: 1\nchanged: []\n":                                           "it is not whole",
		"version: 9\nwhole: true\n":                                           "version 9: this vring reads version 1",
		fmt.Sprintf(change, "8080:10.0.2.99:80"):                              "10.0.2.99",
		"version: 1\nadded: [{socket-path: /etc/s, stub: {}}]\nwhole: true\n": "no guest has its socket in /etc",
	} {
		require.NoError(t, os.WriteFile(state, []byte(text), 0o600))
		status, _, stderr := runHere(t, args...)
		require.Equal(t, exitUsage, status, "%s\n%s", text, stderr)
		require.Contains(t, stderr, want)
		require.Contains(t, stderr, "mend the file, or remove it")
		now, err := os.ReadFile(state)
		require.NoError(t, err)
		require.Equal(t, text, string(now), "it is left as it is")
	}
	taken := porttest.FreePort(t)
	l, err := net.Listen("tcp4", taken.String())
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, os.WriteFile(state, fmt.Appendf(nil, change, fmt.Sprintf("%d:80", taken.Port())), 0o600))
	_, _, stderr := runHere(t, args...)
	require.Contains(t, stderr, fmt.Sprint(taken.Port()))
	require.Contains(t, stderr, state)
}

// A process is killed at any moment of a change, or when the file is saved. What it has answered is there when it is started again, or what it was just
// doing; never half of a change, and never something else.
func TestAKilledVringLeavesTheOldStateOrTheNewOne(t *testing.T) {
	kills := 15
	if os.Getenv("VRING_ENDURANCE") != "" {
		kills = 500
	}
	k := startKeeping(t, "guests: [{socket-path: DIR/s}]\nstate: DIR/state\nnat:\n  dns: [192.0.2.53]\n")
	first, second := porttest.FreePort(t).Port(), porttest.FreePort(t).Port()
	random := rand.New(rand.NewPCG(1, uint64(os.Getpid())))
	answered, kept := 0, 0
	for range kills {
		client := control.NewClient(filepath.Join(k.dir, "s.ctl"))
		begun, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for i := answered + 1; changeTo(t.Context(), client, i, first, second) == nil; i++ {
				if answered = i; i%4 == 0 {
					_, _ = saveConfig(t.Context(), client)
				}
				select {
				case begun <- struct{}{}:
				default:
				}
			}
		}()
		<-begun
		time.Sleep(time.Duration(random.IntN(150_000)) * time.Microsecond)
		require.NoError(t, k.Process.Kill())
		require.Error(t, k.end())
		<-ended
		client.Close()
		k.start()
		now := stepOf(t, filepath.Join(k.dir, "s.ctl"), first, second)
		require.Contains(t, []int{answered, answered + 1}, now)
		if now > answered {
			kept++
		}
		answered = now
	}
	t.Logf("%d changes; of %d that were not answered, %d were kept", answered, kills, kept)
	k.stop()
}

// changeTo makes the change of a step, as a whole: two rules, or two forwards. One that the disk does not have, because its writer was killed
// first, counts as not answered, and vring says so.
func changeTo(ctx context.Context, client *control.Client, step int, first, second uint16) error {
	change := func(path string, body any) error {
		var answer api.Changed
		if err := client.Do(ctx, http.MethodPut, path, body, &answer); err != nil {
			return err
		}
		if answer.NotKept != "" {
			return errors.New(answer.NotKept)
		}
		return nil
	}
	if step%2 == 0 {
		rule := func(high int) api.Rule {
			return api.Rule{Deny: fmt.Sprintf("%d.%d.%d.0/24", high, step>>8&255, step&255)}
		}
		return change("/v1/policy", &api.Policy{Rules: []api.Rule{rule(11), rule(12)}, AllowHost: []string{}})
	}
	forward := func(port uint16, proto string) api.Forward {
		return api.Forward{Proto: proto, HostPort: port, GuestPort: uint16(step)}
	}
	return change("/v1/forwards", []api.Forward{forward(first, "tcp"), forward(second, "udp")})
}

// stepOf is the last step that a vring has made. It has made it whole, and the one before.
func stepOf(t *testing.T, path string, first, second uint16) int {
	client := control.NewClient(path)
	defer client.Close()
	var text control.Text
	require.NoError(t, client.Do(t.Context(), http.MethodGet, "/v1/config", nil, &text))
	f, err := configfile.Parse("now", text, daemon.LookupGroup)
	require.NoError(t, err)
	n := f.Config.NAT
	byRules, byForwards := 0, 0
	if len(n.Rules) > 0 {
		require.Len(t, n.Rules, 2, "%s", text)
		var high, low int
		_, err := fmt.Sscanf(n.Rules[0].String(), "11.%d.%d.0/24", &high, &low)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("12.%d.%d.0/24", high, low), n.Rules[1].String())
		byRules = high<<8 | low
	}
	if len(n.Forwards) > 0 {
		require.Len(t, n.Forwards, 2, "%s", text)
		require.Equal(t, []uint16{first, second}, []uint16{n.Forwards[0].Host.Port(), n.Forwards[1].Host.Port()})
		require.Equal(t, n.Forwards[0].Guest.Port(), n.Forwards[1].Guest.Port())
		byForwards = int(n.Forwards[0].Guest.Port())
	}
	require.True(t, byRules == byForwards+1 || byForwards == byRules+1 || byRules+byForwards == 1, "%s", text)
	return max(byRules, byForwards)
}
