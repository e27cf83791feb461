package sandbox

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Mode says whether the sandbox holds.
type Mode uint8

// The modes.
const (
	On     Mode = iota // refuse what the process does not need
	Strict             // as On, and a wall that is missing is an error
	Log                // refuse nothing; the kernel logs system calls that On would refuse
	Off                // do nothing
)

// modeNames are the modes as users write them.
func modeNames() []string { return []string{On: "on", Strict: "strict", Log: "log", Off: "off"} }

func (m Mode) String() string { return modeNames()[m] }

// ParseMode reads on, strict, log or off.
func ParseMode(text string) (Mode, error) {
	for m, name := range modeNames() {
		if text == name {
			return Mode(m), nil
		}
	}
	return On, fmt.Errorf("--sandbox %q: want on, strict, log or off", text)
}

// Config is what the process still needs, apart from what it has open already: sockets that listen go on accepting.
type Config struct {
	Mode Mode
	// EmptyRoot is that this process has a namespace of mounts of its own: its root directory is then replaced by an empty one.
	EmptyRoot bool
	// Shares is why it has none, to be told; "" for a process that is not meant to have one.
	Shares string
	// User is whom this process becomes, which root has started and which ends with its parent; nil for a process that stays whose it is.
	User *User
	// StaysRoot is why it stays root's, to be told; "" for a process that is not meant to become another user's.
	StaysRoot  string
	Internet   bool // make IPv4 and IPv6 connections, over TCP and UDP, and pings
	Reconnects bool // connect sockets of datagrams that are open, to one address after the other
	Accept     bool // have package net accept connections of TCP, of which it sets an option
	TAP        bool // use TAP devices: attach their queues, and set carrier and offloads
	Reopen     bool // join TAP devices that come back
	// Multicast lets sockets of the internet join groups. An interface that has come back needs new sockets, and those must be
	// bound to the groups, so any port may be used then. Timers may be set.
	Multicast bool
	// Devices lets sockets of the internet be bound to an interface.
	Devices bool
	// Sources lets sockets of the internet be bound to a source address. Seccomp does not see which port that is; Landlock lets TCP have
	// none but one of the kernel's choice.
	Sources bool
	// Pin lets threads that come later be pinned to processors.
	Pin bool
	// Notify is the descriptor of the service manager's datagram socket, which is connected: it can be written to and nothing
	// else, for it could be used to reach other sockets. 0 is none.
	Notify int

	// What follows is for small processes beside one that serves guests.

	Undumpable bool     // let no other process of the same user trace it, or look at its memory and its descriptors
	Children   bool     // wait for the end of processes that were started before, which end with this one
	KillsOther bool     // those are another user's: CAP_KILL is kept, without which the kernel would not end them with this one
	Read       bool     // open files for reading
	Remove     []string // files to remove
	Dial       []string // unix sockets to connect to, abstract ones with a leading @
	Interfaces bool     // set up network interfaces: CAP_NET_ADMIN is kept, if it is there
	// Bind opens ports of TCP and UDP that others are connected to; BindPrivileged those that need a right, too: CAP_NET_BIND_SERVICE is
	// kept, if it is there. MakeIn are directories in which unix sockets are made and removed, and GiveGroup that they are given to a group.
	Bind, BindPrivileged bool
	MakeIn               []string
	GiveGroup            bool
	Routes               bool // open sockets to the host's routing table
	Pings                bool // open ping sockets
	Meets                bool // connect sockets that are open to others of the host
	// Keep are files that are given other contents, each by a temporary one that takes its place.
	Keep []Kept
	// Logs are files to which is added: they are opened or made, and get other names in their directories.
	Logs []Kept
	Log  *slog.Logger
}

// Kept is a file of Keep or Logs.
type Kept struct {
	Path string
	In   int // its directory, which is open, and not as 0
}

// Enter puts up the walls around all threads of this process, present and to come, and tells how they stand. It is called
// once, when everything is open. What is less than promised is logged as a warning, and an error in mode Strict. After an
// error, some walls may stand.
func Enter(cfg Config) (State, error) {
	if cfg.Mode == Off {
		return nil, nil
	}
	_, _ = time.Now().Zone() // package time reads the zone's file on first use, which would be for the log
	state, err := enter(&cfg)
	if err == nil && cfg.Mode == Strict {
		err = state.weak()
	}
	if err != nil {
		return state, fmt.Errorf("sandbox: %w; %s", err, cfg.Mode.wayOut())
	}
	state.log(cfg.Log)
	cfg.Log.Debug("sandboxed", "mode", cfg.Mode, "walls", state)
	return state, nil
}

// wayOut tells what to do where the sandbox cannot be had.
func (m Mode) wayOut() string {
	if m == Strict {
		return "--sandbox=on goes on with what can be had"
	}
	return "--sandbox=off runs without one"
}

// enter puts up the walls in an order in which none is in the way of the next.
func enter(cfg *Config) (State, error) {
	state := State{{Name: "no_new_privs", Keeps: "new rights"}}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("no_new_privs: %w", err)
	}
	if cfg.Mode != Log {
		if err := forbidDumps(cfg); err != nil {
			return state, fmt.Errorf("forbid dumps: %w", err)
		}
		state = append(state, leaveRoot(cfg)...) // which needs a capability
		emptyBounds()                            // so does that
		state = append(state, becomeUser(cfg)...)
		if err := dropCapabilities(cfg); err != nil {
			return state, fmt.Errorf("drop capabilities: %w", err)
		}
		files, err := restrictFiles(cfg)
		if err != nil {
			return state, fmt.Errorf("restrict files by Landlock: %w", err)
		}
		state = append(state, Wall{Name: "capabilities", Keeps: cfg.dropped()}, files)
	}
	calls, err := restrictCalls(cfg)
	if err != nil {
		return state, fmt.Errorf("seccomp: %w", err)
	}
	state = append(state, calls)
	state.judge(cfg.Mode)
	return state, nil
}

// forbidDumps keeps the memory and the descriptors of this process from others of its user.
func forbidDumps(cfg *Config) error {
	if !cfg.Undumpable {
		return nil
	}
	_, err := cap.Prctlw(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	return err
}

// kept are the capabilities that the process still needs.
func (c *Config) kept() (all []cap.Value) {
	if c.Interfaces {
		all = append(all, cap.NET_ADMIN)
	}
	if c.Bind && c.BindPrivileged {
		all = append(all, cap.NET_BIND_SERVICE)
	}
	if c.Children && c.KillsOther {
		all = append(all, cap.KILL)
	}
	return all
}

// dropped tells which capabilities are.
func (c *Config) dropped() string {
	text := "all"
	for i, c := range c.kept() {
		text += []string{" but ", " and "}[min(i, 1)] + strings.ToUpper(c.String())
	}
	return text
}

// judge tells what no other wall keeps: seccomp keeps all that older versions of Landlock do not.
func (s State) judge(mode Mode) {
	calls := &s[len(s)-1]
	for i := range s[:len(s)-1] {
		s[i].Weak = s[i].Weak || s[i].Lacks != "" && calls.Keeps == ""
	}
	if mode == Log {
		calls.Keeps, calls.Lacks = "", "it only logs (--sandbox=log)"
	}
}

// emptyBounds empties the bounding set, if this process may: no capability can come back through a program then. no_new_privs says
// the same.
func emptyBounds() {
	if may, _ := cap.GetProc().GetFlag(cap.Effective, cap.SETPCAP); !may {
		return
	}
	for c := range cap.MaxBits() {
		_ = cap.DropBound(c)
	}
}

// dropCapabilities need not be allowed to make its system calls where there is nothing to drop: service managers forbid
// them (systemd's @privileged).
func dropCapabilities(cfg *Config) error {
	have, keep := cap.GetProc(), cap.NewSet()
	for _, c := range cfg.kept() {
		for _, flag := range []cap.Flag{cap.Permitted, cap.Effective} {
			if has, _ := have.GetFlag(flag, c); has {
				_ = keep.SetFlag(flag, true, c) // both exist, so nothing can fail
			}
		}
	}
	if difference, err := have.Cf(keep); err == nil && difference == 0 {
		return nil
	}
	return keep.SetProc()
}
