package supervisor

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/sandbox"
)

// needRoot skips a test of what root's server becomes.
func needRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose server becomes another user's")
	}
}

// requireThreads checks that the status (proc(5)) of each thread of a process has lines.
func requireThreads(t *testing.T, pid int, lines ...string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	require.NoError(t, err)
	require.Greater(t, len(files), 1)
	for _, file := range files {
		status, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for _, want := range lines {
			require.Regexp(t, `(?m)^`+want+`\s*$`, string(status), file)
		}
	}
}

// all are the lines of a process whose identities are all the same.
func all(uid, gid int) []string {
	return []string{fmt.Sprintf("Uid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d", uid), fmt.Sprintf("Gid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d", gid), "Groups:"}
}

// powerless are the lines of a process without capabilities.
func powerless() (lines []string) {
	for _, set := range []string{"Inh", "Prm", "Eff", "Bnd", "Amb"} {
		lines = append(lines, "Cap"+set+":\t0000000000000000")
	}
	return lines
}

func TestTheServerOfRootIsAnotherUsers(t *testing.T) {
	needRoot(t)
	for name, env := range map[string][]string{"in namespaces": nil, "in the host's": {"LACKS=pivot_root"}, "without CAP_SYS_ADMIN": {"WITHOUT=cap_sys_admin"}} {
		t.Run(name, func(t *testing.T) {
			r := startWaiting(t, env...)
			want := Isolation{}.becoming().User
			require.NotNil(t, want)
			require.Contains(t, r.walls, fmt.Sprintf("user: what is root's (it runs as %v)", want))
			requireThreads(t, r.child(asServer), append(all(want.UID, want.GID), powerless()...)...)
			requireThreads(t, r.Process.Pid, "Uid:\t0\t0\t0\t0")
		})
	}
}

// A host on which a step of it fails has a server of root's, behind the other walls, and the reason is told.
func TestWhyTheServerStaysRootsIsTold(t *testing.T) {
	needRoot(t)
	for name, c := range map[string]struct{ env, want string }{
		"it is wanted":              {"ROOT=the test wants it", "the test wants it"},
		"no right to change users":  {"WITHOUT=cap_setuid", "it lacks CAP_SETUID"},
		"no right to change groups": {"WITHOUT=cap_setgid", "it lacks CAP_SETGID"},
		"no right to end it":        {"WITHOUT=cap_kill", "it lacks CAP_KILL"},
		"groups cannot be given up": {"LACKS=setgroups", "setgroups: operation not permitted"},
		"the group cannot change":   {"LACKS=setresgid", "setresgid: operation not permitted"},
		"the user cannot change":    {"LACKS=setresuid", "setresuid: operation not permitted"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startWaiting(t, c.env)
			require.Contains(t, r.walls, "user: none, "+c.want+" | capabilities: all | ")
			requireThreads(t, r.child(asServer), append(powerless(), "Uid:\t0\t0\t0\t0", "Seccomp:\t2")...)
		})
	}
}

func TestTheFirstUserThatThereIsIsTaken(t *testing.T) {
	users := func(there ...*user.User) func(string) (*user.User, error) {
		return func(name string) (*user.User, error) {
			for _, u := range there {
				if u.Username == name {
					return u, nil
				}
			}
			return nil, user.UnknownUserError(name)
		}
	}
	vring, nobody := &user.User{Username: "vring", Uid: "997", Gid: "996"}, &user.User{Username: "nobody", Uid: "65534", Gid: "65534"}
	for name, c := range map[string]struct {
		there []*user.User
		want  Becoming
	}{
		"both":       {[]*user.User{nobody, vring}, Becoming{User: &sandbox.User{Name: "vring", UID: 997, GID: 996}}},
		"nobody":     {[]*user.User{nobody}, Becoming{User: &sandbox.User{Name: "nobody", UID: 65534, GID: 65534}}},
		"none":       {nil, Becoming{StaysRoot: "this host has no user of the name vring or nobody"}},
		"root":       {[]*user.User{{Username: "vring", Uid: "0", Gid: "996"}, nobody}, Becoming{StaysRoot: "user vring is root, or in its group"}},
		"root group": {[]*user.User{{Username: "vring", Uid: "997", Gid: "0"}}, Becoming{StaysRoot: "user vring is root, or in its group"}},
		"no number":  {[]*user.User{{Username: "vring", Uid: "-1", Gid: "996"}}, Becoming{StaysRoot: "user vring is root, or in its group"}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, becomingOne(ownUsers(), users(c.there...)))
		})
	}
}
