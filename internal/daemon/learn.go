package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/learned"
	"github.com/vringnet/vring/internal/replacefile"
)

// learnInterval is how often what is new in the book is written.
const learnInterval = time.Minute

// learner writes what was learned to its file.
type learner struct {
	path  string
	book  *learned.Book
	file  func(text []byte) error
	tell  func(Event)
	stop  chan struct{}
	done  chan struct{}
	write sync.Mutex // is held while the file is written
}

// checkLearn returns what is wrong with the file of what is learned.
func (c *Config) checkLearn() error {
	if c.Learn != "" && !c.HasNAT() {
		return faultf("%s %s: only guests behind NAT (vring nat) ask for names of vring", optionLearn, c.Learn)
	}
	return nil
}

// learnedFile is the file of what is learned, nil for none. What another process has learned before is kept as FILE~.
func (d *Daemon) learnedFile() (*broker.StateFile, error) {
	if d.config.Learn == "" {
		return nil, nil
	}
	path, err := filepath.Abs(d.config.Learn)
	if err != nil {
		return nil, faultf("%s %s: %w", optionLearn, d.config.Learn, err)
	}
	before, err := replacefile.ReadPlace(path, broker.MaxState)
	if err != nil {
		return nil, faultf("%s %w", optionLearn, err)
	}
	if len(before) > 0 && !strings.HasPrefix(string(before), learned.Header) {
		return nil, faultf("%s %s: the file is there, and was not learned by vring; name another one", optionLearn, path)
	}
	if before != nil {
		if err := os.Rename(path, path+"~"); err != nil {
			return nil, faultf("%s %w", optionLearn, err)
		}
	}
	first, _ := d.audit.book.Text(time.Now())
	return &broker.StateFile{Path: path, First: first}, nil
}

// openLearn opens the file of what is learned in this process if no broker has it, and begins to write it.
func (d *Daemon) openLearn() error {
	if d.learned == nil {
		return nil
	}
	if !d.broker.KeepsLearned() {
		if err := d.broker.OpenLearned(*d.learned); err != nil {
			return faultf("%s %w", optionLearn, err)
		}
	}
	d.learner = &learner{
		path: d.learned.Path, book: d.audit.book, file: d.broker.WriteLearned, tell: d.tell, stop: make(chan struct{}), done: make(chan struct{}),
	}
	go d.learner.run(learnInterval)
	return nil
}

// run writes what is new, until stop.
func (l *learner) run(interval time.Duration) {
	defer close(l.done)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.writeNew()
		case <-l.stop:
			return
		}
	}
}

// writeNew writes the file, if there is anything new.
func (l *learner) writeNew() {
	if l == nil {
		return
	}
	l.write.Lock()
	defer l.write.Unlock()
	text, isNew := l.book.Text(time.Now())
	if !isNew {
		return
	}
	err := l.file(text)
	if err != nil {
		l.book.Renew()
	}
	l.tell(Learned{Path: l.path, Rules: l.book.Len(), Err: err})
}

// close writes what is left. No guest is served any more.
func (l *learner) close(a *auditor) {
	if l == nil {
		return
	}
	close(l.stop)
	<-l.done
	a.round()
	l.book.End()
	l.writeNew()
}

// Learned returns what was learned so far of the network of a guest. Any goroutine may call it. The error is ErrNoGuest, that the guest is not
// behind NAT, or ErrNotLearning.
func (d *Daemon) Learned(guest string) (learned.View, error) {
	s, err := d.withFlows(guest)
	if err != nil {
		return learned.View{}, err
	}
	if d.audit == nil || d.audit.book == nil {
		return learned.View{}, ErrNotLearning
	}
	d.audit.round() // what was recorded, and not taken yet
	return d.audit.book.View(s.group.own), nil
}

// ErrNotLearning is that nothing is learned.
var ErrNotLearning = errors.New("nothing is learned; --learn FILE does, from the start")
