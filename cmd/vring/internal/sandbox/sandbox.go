package sandbox

import (
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Mode says whether the sandbox holds.
type Mode uint8

// The modes.
const (
	On  Mode = iota // refuse what the process does not need
	Log             // refuse nothing; the kernel logs system calls that On would refuse
	Off             // do nothing
)

// modeNames are the modes as users write them.
func modeNames() []string { return []string{On: "on", Log: "log", Off: "off"} }

func (m Mode) String() string { return modeNames()[m] }

// ParseMode reads on, log or off.
func ParseMode(text string) (Mode, error) {
	for m, name := range modeNames() {
		if text == name {
			return Mode(m), nil
		}
	}
	return On, fmt.Errorf("--sandbox %q: want on, log or off", text)
}

// Config is what the process still needs, apart from what it has open already: sockets that listen go on accepting.
type Config struct {
	Mode     Mode
	Internet bool     // make IPv4 and IPv6 connections, over TCP and UDP
	TAP      bool     // use TAP devices: attach their queues, and set carrier and offloads
	Read     []string // files to read; each may be replaced meanwhile
	Remove   []string // files to remove
	// Dial are the unix sockets to connect to, abstract ones with a leading @. Which ones cannot be enforced: without
	// any, unix sockets cannot be made at all.
	Dial []string
	Log  *slog.Logger
}

// Enter puts up the walls around all threads of this process, present and to come. It is called once, when everything
// is open. After an error, some walls may stand.
func Enter(cfg Config) error {
	if cfg.Mode == Off {
		return nil
	}
	_, _ = time.Now().Zone() // package time reads the zone's file on first use, which would be for the log
	if err := enter(&cfg); err != nil {
		return fmt.Errorf("sandbox: %w; --sandbox=off runs without one", err)
	}
	cfg.Log.Debug("sandboxed", "mode", cfg.Mode)
	return nil
}

// enter puts up the walls in an order in which none is in the way of the next.
func enter(cfg *Config) error {
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if cfg.Mode == On {
		if err := dropCapabilities(); err != nil {
			return fmt.Errorf("drop capabilities: %w", err)
		}
		if err := restrictFiles(cfg); err != nil {
			return fmt.Errorf("landlock: %w", err)
		}
	}
	if err := restrictCalls(cfg); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return nil
}

// dropCapabilities need not be allowed to make its system call where there is nothing to drop: service managers forbid
// it (systemd's @privileged).
func dropCapabilities() error {
	none := cap.NewSet()
	if difference, err := cap.GetProc().Cf(none); err == nil && difference == 0 {
		return nil
	}
	return none.SetProc()
}
