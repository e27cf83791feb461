package broker

import (
	"errors"
	"net"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/vringnet/vring/internal/logplace"
)

const (
	// auditBurst is how many files of the audit log may be opened at once, and auditRate how many each second in the long run.
	auditBurst, auditRate = 20, 2
)

// auditKeeper opens files of the audit log.
type auditKeeper struct {
	place *logplace.Place // nil for none
	pace  *rate.Limiter
}

// open opens the place of a log; "" is none.
func (a *auditKeeper) open(path string) (err error) {
	a.pace = rate.NewLimiter(auditRate, auditBurst)
	if path != "" {
		a.place, err = logplace.Open(path)
	}
	return err
}

// pass opens a file, and passes it on.
func (a *auditKeeper) pass(to *net.UnixConn, r request) error {
	if !a.pace.AllowN(time.Now(), 1) {
		return reply(to, nil, errors.New("the audit log was opened too often; try again in a second"))
	}
	open := a.place.Open
	if r.Verb == verbNextAudit {
		open = a.place.Next
	}
	fd, err := open(string(r.Name))
	if err != nil {
		return reply(to, nil, err)
	}
	defer unix.Close(fd)
	return pass(to, fd)
}

func (a *auditKeeper) close() error {
	if a.place == nil {
		return nil
	}
	place := a.place
	a.place = nil
	return place.Close()
}

// audits is the client's side of the audit log.
type audits struct {
	mu    sync.Mutex
	place *logplace.Place // if it is this process that opens files; nil otherwise
}

// SetAuditPlace lets this process open files of the audit log, until a broker starts that does so, or Undo.
func (c *Client) SetAuditPlace(p *logplace.Place) {
	c.audits.mu.Lock()
	defer c.audits.mu.Unlock()
	c.audits.place = p
}

// OpenAudit opens a file of the audit log for lines that are added to it: that of the start, or one that is like it (logplace.Check). The
// descriptor is the caller's. It does not wait for long, nor does NextAudit.
func (c *Client) OpenAudit(path string) (fd int, err error) {
	return c.openAudit(verbAudit, path, (*logplace.Place).Open)
}

// NextAudit opens an empty file in the place of the one at path, which becomes the one before. The descriptor is the caller's.
func (c *Client) NextAudit(path string) (fd int, err error) {
	return c.openAudit(verbNextAudit, path, (*logplace.Place).Next)
}

func (c *Client) openAudit(verb, path string, here func(*logplace.Place, string) (int, error)) (int, error) {
	if c.duties.Audit != "" {
		return descriptorIn(c.askHurried(request{Verb: verb, Name: []byte(filepath.Base(path))}))
	}
	c.audits.mu.Lock()
	defer c.audits.mu.Unlock()
	if c.audits.place == nil {
		return -1, errors.New("there is no audit log")
	}
	return here(c.audits.place, path)
}

// close ends what OpenAudit needs.
func (a *audits) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.place == nil {
		return nil
	}
	place := a.place
	a.place = nil
	return place.Close()
}
