package labrun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// patience is for what needs no time.
const patience = 2 * time.Minute

// This program is in the place of vring, and of a keeper that is killed.
const (
	vringVariable  = "LABRUN_TEST_VRING"  // the control socket
	keeperVariable = "LABRUN_TEST_KEEPER" // the place
)

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "serve":
		os.Exit(fakeVring(os.Getenv(vringVariable), os.Args[2]))
	case os.Getenv(keeperVariable) != "":
		os.Exit(keepHere(os.Getenv(keeperVariable)))
	}
	os.Exit(m.Run())
}

// fakeVring answers as vring does at its control socket: it refuses a file that has the word "wrong".
func fakeVring(socket, config string) int {
	text, err := os.ReadFile(config)
	if err != nil || strings.Contains(string(text), "broken") {
		fmt.Fprintln(os.Stderr, "the file is broken")
		return 2
	}
	_ = os.Remove(socket)
	l, err := net.Listen("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/log-level", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"level": "info"}`) })
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, _ *http.Request) {
		if text, _ := os.ReadFile(config); strings.Contains(string(text), "wrong") {
			w.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprint(w, `{"error": "refused", "faults": [{"text": "mtu cannot change", "file": "vring.yaml", "line": 1, "column": 1}]}`)
			return
		}
		fmt.Fprint(w, `{"changed": [{"key": "forwards"}]}`)
	})
	_ = http.Serve(l, mux)
	return 0
}

// keepHere keeps a lab in a place until this process ends.
func keepHere(path string) int {
	h, err := Place{path}.Take()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	l, err := h.Listen()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	me, _ := os.Executable()
	_ = Keep(context.Background(), h, l, []string{me})
	return 0
}

// rig is a lab of tests.
type rig struct {
	*testing.T
	Place
	ctx  context.Context
	kept chan error // gets what Keep returns
	file string
}

// newRig returns a lab without a keeper.
func newRig(t *testing.T) *rig {
	dir, err := os.MkdirTemp("", "lr") // testing's own leaves no room for a socket
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	p, err := PlaceOf(dir, "t")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	t.Setenv(vringVariable, filepath.Join(p.Path, "vring.ctl"))
	return &rig{T: t, Place: p, ctx: ctx, kept: make(chan error, 1), file: filepath.Join(dir, "t.yaml")}
}

// keep starts the keeper.
func (r *rig) keep() {
	r.Helper()
	h, err := r.Take()
	require.NoError(r, err)
	l, err := h.Listen()
	require.NoError(r, err)
	me, err := os.Executable()
	require.NoError(r, err)
	go func() { r.kept <- Keep(r.ctx, h, l, []string{me}) }()
	r.Cleanup(func() { _ = r.Down(context.WithoutCancel(r.ctx)) })
}

// plan is one with shell scripts as guests, by their names.
func (r *rig) plan(config string, scripts ...string) *Plan {
	p := &Plan{File: r.file, Config: config, Control: filepath.Join(r.Path, "vring.ctl")}
	for i := 0; i < len(scripts); i += 2 {
		p.Guests = append(p.Guests, Program{Name: scripts[i], Words: []string{"/bin/sh", "-c", scripts[i+1]}, Restart: "never"})
	}
	return p
}

func (r *rig) apply(p *Plan) *Applied {
	r.Helper()
	done, err := r.Apply(r.ctx, p)
	require.NoError(r, err)
	return done
}

// guest is how the program of a guest is, when is reports so.
func (r *rig) guest(name string, is func(ProgramStatus) bool) (found ProgramStatus) {
	r.Helper()
	require.Eventually(r, func() bool {
		s, err := r.Status(r.ctx)
		require.NoError(r, err)
		for _, g := range s.Guests {
			if g.Name == name && is(g) {
				found = g
				return true
			}
		}
		return false
	}, patience, 5*time.Millisecond)
	return found
}

func runs(s ProgramStatus) bool { return s.PID != 0 }
func over(s ProgramStatus) bool { return s.PID == 0 && s.Ended != "" }

const forever = "while :; do sleep 0.01; done"

func TestALabComesUpAndNothingIsLeftOfIt(t *testing.T) {
	r := newRig(t)
	_, err := r.Status(r.ctx)
	require.ErrorIs(t, err, ErrDown)
	r.keep()
	_, err = r.Take()
	require.ErrorIs(t, err, ErrKept, "there is one keeper")

	require.Equal(t, &Applied{First: true, Started: []string{"a"}}, r.apply(r.plan("x", "a", "echo hello; "+forever)))
	a := r.guest("a", runs)
	s, err := r.Status(r.ctx)
	require.NoError(t, err)
	require.Equal(t, r.file, s.File)
	require.NotZero(t, s.Vring.PID)
	require.Eventually(t, func() bool {
		text, _ := os.ReadFile(r.Log("a"))
		return string(text) == "hello\n"
	}, patience, time.Millisecond)
	info, err := os.Stat(r.Path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())

	require.NoError(t, r.Down(r.ctx))
	require.NoError(t, <-r.kept)
	for _, pid := range []int{a.PID, s.Vring.PID} {
		require.ErrorIs(t, unix.Kill(pid, 0), unix.ESRCH)
	}
	left, err := os.ReadDir(filepath.Dir(r.Path))
	require.NoError(t, err)
	require.Empty(t, left)
	require.ErrorIs(t, r.Down(r.ctx), ErrDown)
}

func TestALabThatIsUpAdoptsWhatIsNew(t *testing.T) {
	r := newRig(t)
	r.keep()
	r.apply(r.plan("x", "a", forever, "b", forever, "c", "exit 3"))
	a, _ := r.guest("a", runs), r.guest("b", runs)
	require.Equal(t, "exit status 3", r.guest("c", over).Ended)
	require.Equal(t, &Applied{Started: []string{"c"}}, r.apply(r.plan("x", "a", forever, "b", forever, "c", "exit 3")), "what has ended is started again")
	r.guest("c", over)

	done := r.apply(r.plan("y", "a", forever+" # otherwise", "d", forever))
	require.Equal(t, &Applied{Changed: []string{"forwards"}, Started: []string{"d"}, Stopped: []string{"b", "c"}, Kept: []string{"a"}}, done)
	require.Equal(t, a.PID, r.guest("a", runs).PID)

	_, err := r.Apply(r.ctx, r.plan("wrong", "e", forever))
	require.EqualError(t, err, "mtu cannot change")
	text, err := os.ReadFile(r.config())
	require.NoError(t, err)
	require.Equal(t, "y", string(text))
	r.guest("a", runs)

	other := r.plan("y")
	other.File = "/elsewhere/t.yaml"
	_, err = r.Apply(r.ctx, other)
	require.ErrorContains(t, err, "is up, from the file "+r.file)
}

// Whoever asks while a lab is taken down has an answer, or finds no lab.
func TestALabIsTakenDownWhileOthersAskHowItIs(t *testing.T) {
	r := newRig(t)
	r.keep()
	r.apply(r.plan("x", "a", forever))
	const clients = 16
	answers := make(chan error, 2*clients)
	for range clients {
		go func() {
			_, err := r.Status(r.ctx)
			answers <- err
		}()
		go func() { answers <- r.Down(r.ctx) }()
	}
	for range 2 * clients {
		if err := <-answers; err != nil {
			require.ErrorIs(t, err, ErrDown)
		}
	}
	require.NoError(t, <-r.kept)
}

func TestALabWhoseVringDoesNotStartIsDown(t *testing.T) {
	r := newRig(t)
	r.keep()
	_, err := r.Apply(r.ctx, r.plan("broken", "a", forever))
	require.ErrorContains(t, err, "vring has ended before the lab was up (exit status 2):\nthe file is broken")
	require.NoError(t, <-r.kept)
	require.NoDirExists(t, r.Path)
}

func TestAVringThatFailsIsStartedAgain(t *testing.T) {
	r := newRig(t)
	r.keep()
	r.apply(r.plan("x"))
	s, err := r.Status(r.ctx)
	require.NoError(t, err)
	require.NoError(t, unix.Kill(s.Vring.PID, unix.SIGKILL))
	require.Eventually(t, func() bool {
		s, err = r.Status(r.ctx)
		return err == nil && s.Vring.Started == 2 && s.Vring.PID != 0
	}, patience, 5*time.Millisecond)
	require.Equal(t, "signal: killed", s.Vring.Ended)
}

func TestProgramsAreStartedAgainAsTheyShall(t *testing.T) {
	r := newRig(t)
	r.keep()
	p := r.plan("x", "never", "exit 1", "fails", "exit 1", "works", "exit 0", "always", "exit 0", "missing", "")
	for i, restart := range []string{"never", "on-failure", "on-failure", "always", "never"} {
		p.Guests[i].Restart = restart
	}
	p.Guests[4].Words = []string{"/nonexistent/program"}
	r.apply(p)
	for _, name := range []string{"fails", "always"} {
		r.guest(name, func(s ProgramStatus) bool { return s.Started > 1 })
	}
	for _, name := range []string{"never", "works", "missing"} {
		s := r.guest(name, over)
		require.Equal(t, 1, s.Started, name)
		require.False(t, s.Again)
	}
	require.Contains(t, r.guest("missing", over).Ended, "no such file")
}

// The kernel ends what a keeper has started that is killed, and the next one finds nothing in its way.
func TestNothingRunsWithoutItsKeeper(t *testing.T) {
	r := newRig(t)
	me, err := os.Executable()
	require.NoError(t, err)
	keeper := exec.Command(me)
	keeper.Env = append(os.Environ(), keeperVariable+"="+r.Path)
	require.NoError(t, keeper.Start())
	defer func() { _ = keeper.Process.Kill() }()
	require.Eventually(t, func() bool {
		_, err := r.Apply(r.ctx, r.plan("x", "a", forever))
		return err == nil
	}, patience, 5*time.Millisecond)
	a := r.guest("a", runs)
	s, err := r.Status(r.ctx)
	require.NoError(t, err)
	require.NoError(t, keeper.Process.Kill())
	_ = keeper.Wait()
	for _, pid := range []int{a.PID, s.Vring.PID} {
		require.Eventually(t, func() bool { return !isRunning(pid) }, patience, 5*time.Millisecond)
	}
	_, err = r.Status(r.ctx)
	require.ErrorIs(t, err, ErrDown)
	require.ErrorIs(t, r.Down(r.ctx), ErrDown)
	require.NoDirExists(t, r.Path)
}

// isRunning reports whether a process runs. One that nobody has waited for does not.
func isRunning(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(state, "Z")
}

func TestAKeeperIsNotImpressedByNonsense(t *testing.T) {
	r := newRig(t)
	r.keep()
	for _, text := range []string{"", "nonsense", "{}", `{"apply": 3}`, "[" + strings.Repeat("[", 1<<16)} {
		c, err := net.Dial("unix", r.socket())
		require.NoError(t, err)
		_, _ = c.Write([]byte(text))
		require.NoError(t, c.(*net.UnixConn).CloseWrite())
		var a answer
		require.NoError(t, json.NewDecoder(c).Decode(&a))
		require.NotEmpty(t, a.Error)
		require.NoError(t, c.Close())
	}
	r.apply(r.plan("x"))
}

func TestAPlaceIsThisUsersAlone(t *testing.T) {
	r := newRig(t)
	require.NoError(t, os.Mkdir(r.Path, 0o755))
	_, err := r.Take()
	require.ErrorContains(t, err, "want a directory of this user's own")
	require.NoError(t, os.Remove(r.Path))
	require.NoError(t, os.Symlink("/tmp", r.Path))
	_, err = r.Take()
	require.ErrorContains(t, err, "want a directory of this user's own")
	for _, name := range []string{"", "a b", "../x", ".x", strings.Repeat("x", 41)} {
		_, err := PlaceOf("/run", name)
		require.ErrorContains(t, err, "cannot be called")
	}
}

func TestALogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := openLog(path)
	require.NoError(t, err)
	line := []byte(strings.Repeat("x", 1000))
	for range 5000 {
		_, err := l.Write(line)
		require.NoError(t, err)
	}
	_, err = l.Write([]byte("the end"))
	require.NoError(t, err)
	require.NoError(t, errors.Join(l.close()))
	for _, name := range []string{path, path + ".1"} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(maxLog))
		require.NotZero(t, info.Size())
	}
	require.True(t, strings.HasSuffix(tail(path), "the end"))
	require.LessOrEqual(t, len(tail(path+".1")), maxTail)
}
