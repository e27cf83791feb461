package supervisor

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/vringnet/vring/internal/sandbox"
)

// Becoming is whom a server becomes in its sandbox.
type Becoming struct {
	User      *sandbox.User // nil for a server that stays whose it is
	StaysRoot string        // why it stays root's; "" for one that becomes User's, or was never root's
}

// ownUsers are the users whom a server of root's becomes: the first that there is.
func ownUsers() []string { return []string{"vring", "nobody"} }

// becoming decides whom the server becomes. Its supervisor stays root's and keeps CAP_KILL, with which the kernel ends the server when
// the supervisor dies: that is a signal of the supervisor's to another user's process.
func (i Isolation) becoming() Becoming {
	if os.Geteuid() != 0 {
		return Becoming{}
	}
	if i.Root != "" {
		return Becoming{StaysRoot: i.Root}
	}
	if lacks := lacking(cap.SETUID, cap.SETGID, cap.KILL); lacks != "" {
		return Becoming{StaysRoot: "it lacks " + lacks}
	}
	if i.User != nil {
		return Becoming{User: i.User}
	}
	return becomingOne(ownUsers(), user.Lookup)
}

// lacking tells which capabilities this process has not.
func lacking(want ...cap.Value) string {
	var names []string
	have := cap.GetProc()
	for _, c := range want {
		if has, _ := have.GetFlag(cap.Effective, c); !has {
			names = append(names, strings.ToUpper(c.String()))
		}
	}
	return strings.Join(names, ", ")
}

// becomingOne is becoming the first of users that there is.
func becomingOne(users []string, lookup func(string) (*user.User, error)) Becoming {
	for _, name := range users {
		u, err := lookup(name)
		if err != nil {
			continue
		}
		uid, gid := number(u.Uid), number(u.Gid)
		if uid == 0 || gid == 0 {
			return Becoming{StaysRoot: fmt.Sprintf("user %s is root, or in its group", name)}
		}
		return Becoming{User: &sandbox.User{Name: name, UID: uid, GID: gid}}
	}
	return Becoming{StaysRoot: fmt.Sprintf("this host has no user of the name %s", strings.Join(users, " or "))}
}

// number is that of a user or group, 0 for what is none.
func number(text string) int {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}
