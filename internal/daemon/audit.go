package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/vringnet/vring/internal/auditlog"
	"github.com/vringnet/vring/internal/learned"
	"github.com/vringnet/vring/internal/logplace"
	"github.com/vringnet/vring/netbackend/nat/audit"
)

const (
	// auditRoom is how many entries of a guest wait for the log at most.
	auditRoom = 2048
	// auditRate is how many queries, denials and refusals of a guest the log has of a second, after auditBurst at once: a guest that tries
	// everything does not fill the disk, nor push what others did out of the file. Connections are bounded by what there may be of them.
	auditRate, auditBurst = 500, 2000
	// auditPause is when the log says that entries are missing, if no other one comes.
	auditPause = time.Second
	// auditPatience is how long the end of the daemon waits for the log.
	auditPatience = 2 * time.Second
)

// auditor writes what guests behind NAT do at the border into the audit log.
type auditor struct {
	out  *auditlog.File // nil for none; guarded by mu, as what follows is
	off  bool           // nothing is written for now
	book *learned.Book  // nil for none
	tell func(Event)
	wake chan struct{}
	stop chan struct{}
	done chan struct{}

	mu      sync.Mutex
	guests  []*audited
	trouble bool // the last write has failed
}

// audited is a guest whose entries are written.
type audited struct {
	recorder *audit.Recorder
	name     string // guarded by the auditor's lock
	own      string // its socket, if its network is its own; guarded likewise
	pace     *rate.Limiter
	seen     uint64 // of recorder.Lost
	missing  uint64 // entries that are not in the log, and of which it does not say so yet
}

// errNoAudit is that there is no audit log to do something with.
var errNoAudit = errors.New("there is no audit log; --audit-log FILE has one from the start")

// checkAudit returns what is wrong with the audit log.
func (c *Config) checkAudit() error {
	if c.AuditOff && c.AuditLog == "" {
		return faultf("%s without %s: there is nothing to write", optionAuditOff, optionAuditLog)
	}
	if c.AuditLog != "" && !c.HasNAT() {
		return faultf("%s %s: only guests behind NAT (vring nat) have an audit log", optionAuditLog, c.AuditLog)
	}
	return nil
}

// checkAuditFile returns why the audit log of a process that began with one file cannot go on in another.
func checkAuditFile(start, after string) error {
	if none := func(path string) bool { return path == "" || path == auditlog.Stdout }; none(start) || none(after) {
		return faultf("%s cannot change from %q to %q while guests are served: the sandbox reaches no file but those beside that of the start; %s writes nothing for a while",
			optionAuditLog, start, after, optionAuditOff)
	}
	from, to := filepath.Clean(start), filepath.Clean(after)
	if filepath.IsAbs(to) && !filepath.IsAbs(from) {
		return faultf("%s %s: write it as %s was written at the start, without its directory's absolute path", optionAuditLog, after, start)
	}
	if err := logplace.Check(from, to); err != nil {
		return faultf("%s %w; a new process can have it", optionAuditLog, err)
	}
	return nil
}

// auditChange lets the audit log go on in another file.
func (d *Daemon) auditChange() *change {
	var path string
	var next *auditlog.File
	return &change{
		check: func(after *Config) error {
			path = after.AuditLog
			return checkAuditFile(d.auditStart(), path)
		},
		prepare: func(*Applied) (err error) {
			next, err = auditlog.Open(path, d.broker)
			return err
		},
		undo:  func() { _ = next.Close() },
		apply: func(*Config, *Applied) { _ = d.audit.goOnIn(next).Close() },
	}
}

// auditStart is the file beside which those are that the log may go on in.
func (d *Daemon) auditStart() string { return cmp.Or(d.program.AuditStart, d.config.AuditLog) }

// auditOffChange stops and resumes the audit log.
func (d *Daemon) auditOffChange() *change {
	return &change{
		check: func(after *Config) error { return after.checkAudit() },
		apply: func(after *Config, _ *Applied) { d.audit.setOff(after.AuditOff) },
	}
}

// ReopenAudit lets the audit log go on in the file that is at its path now: programs that rotate logs have given the one before another name. Any
// goroutine may call it between Open and the end of Serve.
func (d *Daemon) ReopenAudit() error {
	d.applying.Lock() // nobody changes the path meanwhile
	defer d.applying.Unlock()
	return d.audit.reopen()
}

// AuditLog is how the audit log stands.
type AuditLog struct {
	Path  string // "" for none
	Off   bool   // nothing is added for now
	Size  int64  // bytes of the file; 0 for standard output
	Fails bool   // the last lines could not be written
}

// AuditLog returns how the audit log stands. Any goroutine may call it.
func (d *Daemon) AuditLog() AuditLog {
	a := d.audit
	if a == nil {
		return AuditLog{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.out == nil {
		return AuditLog{}
	}
	return AuditLog{Path: a.out.Path(), Off: a.off, Size: a.out.Size(), Fails: a.trouble}
}

// openAudit opens the audit log and the book of what is learned, if there are any.
func (d *Daemon) openAudit() error {
	c := &d.config
	if c.AuditLog == "" && c.Learn == "" {
		return nil
	}
	a := &auditor{off: c.AuditOff, tell: d.tell, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	if c.AuditLog != "" {
		var err error
		if a.out, err = d.openAuditFile(); err != nil {
			return faultf("%s %w", optionAuditLog, err)
		}
	}
	if c.Learn != "" {
		a.book = learned.New()
	}
	d.audit = a
	go a.run()
	return nil
}

// openAuditFile opens the file of the audit log, and its place.
func (d *Daemon) openAuditFile() (*auditlog.File, error) {
	path := d.config.AuditLog
	if path != auditlog.Stdout {
		absolute, err := filepath.Abs(d.auditStart())
		if err != nil {
			return nil, err
		}
		place, err := logplace.Open(absolute)
		if err != nil {
			return nil, err
		}
		d.asked.duties.Audit = absolute
		d.broker.SetAuditPlace(place)
	}
	return auditlog.Open(path, d.broker)
}

// file is where lines go, nil for nowhere.
func (a *auditor) file() *auditlog.File {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.out
}

// goOnIn writes what comes into another file, and returns the one before, which has all that came until now.
func (a *auditor) goOnIn(next *auditlog.File) (before *auditlog.File) {
	a.round()
	a.mu.Lock()
	defer a.mu.Unlock()
	before, a.out = a.out, next
	return before
}

// setOff stops the log, when what came until now is written, or resumes it.
func (a *auditor) setOff(off bool) {
	if a == nil {
		return
	}
	a.round()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.off = off
}

// reopen goes on in the file that is at the path now.
func (a *auditor) reopen() error {
	if a == nil || a.file() == nil {
		return errNoAudit
	}
	a.round()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.out.Reopen()
}

// add returns what takes the entries of another guest; nil if there is no log.
func (a *auditor) add(name string) *audit.Recorder {
	if a == nil {
		return nil
	}
	r := audit.NewRecorder(auditRoom, a.wake, nil)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.guests = append(a.guests, &audited{recorder: r, name: name, pace: rate.NewLimiter(auditRate, auditBurst)})
	return r
}

// rename gives the guest of a recorder its name.
func (a *auditor) rename(r *audit.Recorder, name string) {
	a.update(r, func(g *audited) { g.name = name })
}

// own takes note that the network of a guest is its own, whose socket is own; "" is that it shares one.
func (a *auditor) own(r *audit.Recorder, own string) {
	a.update(r, func(g *audited) { g.own = own })
}

// update changes what is known of the guest of a recorder, if there is a log.
func (a *auditor) update(r *audit.Recorder, change func(g *audited)) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range a.guests {
		if g.recorder == r {
			change(g)
		}
	}
}

// remove forgets the guest of a recorder, which records no more, when its last entries are written.
func (a *auditor) remove(r *audit.Recorder) {
	if a == nil || r == nil {
		return
	}
	a.round()
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, g := range a.guests {
		if g.recorder == r {
			a.guests = append(a.guests[:i:i], a.guests[i+1:]...)
			return
		}
	}
}

// run writes until stop.
func (a *auditor) run() {
	defer close(a.done)
	pause := time.NewTimer(auditPause)
	defer pause.Stop()
	for {
		select {
		case <-a.wake:
		case <-pause.C:
		case <-a.stop:
			a.round()
			return
		}
		if a.round() {
			pause.Reset(auditPause)
		}
	}
}

// round writes what there is, of each guest in turn, and reports whether the log has yet to say that entries are missing.
func (a *auditor) round() (owes bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for again := true; again; {
		again = false
		for _, g := range a.guests {
			again = a.write(g) || again
		}
	}
	for _, g := range a.guests {
		owes = owes || g.missing > 0
	}
	return owes
}

// write writes some entries of a guest, and reports whether there were any.
func (a *auditor) write(g *audited) (some bool) {
	var entries [64]audit.Entry
	n := g.recorder.Take(entries[:])
	lost := g.recorder.Lost()
	a.learn(g, entries[:n], lost-g.seen)
	g.missing += lost - g.seen
	g.seen = lost
	if a.out == nil || a.off {
		g.missing = 0
		return n > 0
	}
	var text []byte
	told, wrote := g.missing, uint64(0)
	if told > 0 {
		line := auditlog.LostLine(g.name, time.Now(), told)
		text = line.Append(text)
	}
	for i := range entries[:n] {
		if entries[i].Kind == audit.Named {
			continue // is for the book alone
		}
		if e := &entries[i]; !g.takes(e) {
			g.missing++
			continue
		}
		line := auditlog.LineOf(g.name, &entries[i])
		text = line.Append(text)
		wrote++
	}
	if len(text) == 0 {
		return n > 0
	}
	err := a.out.Write(text)
	if err == nil {
		g.missing -= told
	} else {
		g.missing += wrote
	}
	a.tellTrouble(err)
	return n > 0
}

// learn enters what a guest did into the book, if there is one.
func (a *auditor) learn(g *audited, entries []audit.Entry, lost uint64) {
	if a.book == nil {
		return
	}
	for i := range entries {
		a.book.Note(g.own, &entries[i])
	}
	a.book.Lost(lost)
}

// takes reports whether an entry is written, by its kind and how many there are.
func (g *audited) takes(e *audit.Entry) bool {
	return e.Kind == audit.Begun || e.Kind == audit.Ended || g.pace.Allow()
}

// tellTrouble tells once that the log cannot be written, and once that it can be again.
func (a *auditor) tellTrouble(err error) {
	if (err != nil) == a.trouble {
		return
	}
	a.trouble = err != nil
	a.tell(AuditTrouble{Path: a.out.Path(), Err: err})
}

// close writes what is left, and closes the log. A log that takes nothing is left alone after a while.
func (a *auditor) close() error {
	if a == nil {
		return nil
	}
	close(a.stop)
	select {
	case <-a.done:
		if a.out == nil {
			return nil
		}
		return a.out.Close()
	case <-time.After(auditPatience):
		return fmt.Errorf("%s %s: what was recorded last could not be written in %v", optionAuditLog, a.out.Path(), auditPatience)
	}
}
