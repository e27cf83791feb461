package passtopt

import (
	"strings"

	"github.com/vringnet/vring/internal/sandbox"
)

// runAs is the user of --runas, nil if none was given: USER or USER:GROUP, by numbers or by names. Without a group it is that of the user's name,
// or has the user's number. Other than with passt, nobody serves as root, or in root's group, who has asked to be somebody else.
func (p *plan) runAs() (*sandbox.User, error) {
	text := p.o.RunAs
	if text == "" && !p.o.runAsGiven {
		return nil, nil
	}
	name, group, hasGroup := strings.Cut(text, ":")
	invalid := faultf("Invalid --runas option: %s", name)
	u := sandbox.User{Name: name}
	var ok bool
	if u.UID, ok = identity(name); ok {
		u.GID = u.UID
	} else if u.UID, u.GID, ok = p.h.User(name); !ok || u.UID == 0 {
		return nil, invalid
	}
	if hasGroup {
		if u.GID, ok = identity(group); !ok {
			if u.GID, ok = p.h.Group(group); !ok || u.GID == 0 {
				return nil, invalid
			}
		}
	}
	if u.UID == 0 || u.GID == 0 {
		return nil, faultf("--runas %s is root, or in its group: without --runas vring chooses a user of its own", text)
	}
	return &u, nil
}

// identity reads the number of a user or a group. Nothing is 0.
func identity(text string) (id int, ok bool) {
	const largest = 1<<31 - 1
	if text == "" {
		return 0, true
	}
	n, ok := number(text, 0)
	return int(min(n, largest)), ok && n <= largest
}
