package labrun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// Plan is a lab as it is to run.
type Plan struct {
	File    string    `json:"file"`   // of the lab, with its absolute path
	Config  string    `json:"config"` // of the vring that serves it: a file of YAML
	Control string    `json:"control"`
	Guests  []Program `json:"guests"`
}

// Status is how a lab is.
type Status struct {
	File    string          `json:"file"`
	PID     int             `json:"pid"` // of the keeper
	Control string          `json:"control"`
	Vring   ProgramStatus   `json:"vring"`
	Guests  []ProgramStatus `json:"programs"`
}

// Applied is what a lab has become by a plan.
type Applied struct {
	First   bool     `json:"first"`   // it was not there before
	Changed []string `json:"changed"` // keys of its network
	Started []string `json:"started"` // guests whose programs were
	Stopped []string `json:"stopped"`
	Kept    []string `json:"kept"` // guests whose programs go on as they are, though the plan has others
}

// request is what a keeper is asked, in one object of JSON. It has one of them.
type request struct {
	Apply  *Plan `json:"apply,omitempty"`
	Status bool  `json:"status,omitempty"`
	Down   bool  `json:"down,omitempty"`
}

// answer is what it says.
type answer struct {
	Error   string   `json:"error,omitempty"`
	Applied *Applied `json:"applied,omitempty"`
	Status  *Status  `json:"status,omitempty"`
}

const (
	// vringName is what the vring of a lab is called among programs.
	vringName = "vring"
	// maxRequest bounds a request, in bytes. A plan has the text of a file, and command lines.
	maxRequest = 8 << 20
	// askPatience is how long a client may take to ask.
	askPatience = 10 * time.Second
	// planPatience is how long a keeper waits for its first plan.
	planPatience = time.Minute
	// openPatience is how long a vring may take to open a lab.
	openPatience = time.Minute
	// lookPause is how long the keeper sleeps before it looks again whether that is done.
	lookPause = 5 * time.Millisecond
)

// keeper keeps a lab.
type keeper struct {
	*Held
	program []string // vring, as in "PROGRAM serve FILE"
	log     *slog.Logger

	mu     sync.Mutex // of one request that changes something
	plan   *Plan      // nil before the first one
	vring  *running
	guests map[string]*running
	ending bool // nothing is started any more

	end   sync.Once
	ended chan struct{} // closed when the lab is down
}

// Keep keeps a lab in a place, until it is taken down, ctx ends, or nobody has a plan for it. program is vring, and l where it is asked. The place is
// removed.
func Keep(ctx context.Context, h *Held, l *net.UnixListener, program []string) error {
	k := &keeper{Held: h, program: program, guests: map[string]*running{}, ended: make(chan struct{})}
	out, err := k.prepare()
	if err != nil {
		return errors.Join(err, h.Remove())
	}
	defer func() { _ = out.close() }()
	k.log = slog.New(slog.NewTextHandler(out, nil))
	impatient := time.AfterFunc(planPatience, k.giveUp)
	defer impatient.Stop()
	stop := context.AfterFunc(ctx, k.down)
	defer stop()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		k.serve(l)
	}()
	<-k.ended
	err = l.Close()
	<-answered // whoever has asked has the answer before this process ends
	return errors.Join(err, h.Remove())
}

func (k *keeper) prepare() (*boundedLog, error) {
	if err := os.Mkdir(k.logs(), 0o700); err != nil {
		return nil, err
	}
	return openLog(k.Log("keeper"))
}

// giveUp ends a keeper that has no plan.
func (k *keeper) giveUp() {
	if !k.isPlanned() {
		k.down()
	}
}

func (k *keeper) isPlanned() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.plan != nil
}

// isDown reports whether all has ended, and nothing is started any more.
func (k *keeper) isDown() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ending
}

// down takes the lab down.
func (k *keeper) down() {
	k.stopAll()
	k.finish()
}

// finish lets Keep return.
func (k *keeper) finish() { k.end.Do(func() { close(k.ended) }) }

// serve answers clients, each by itself, until the listener is closed and all have their answers.
func (k *keeper) serve(l *net.UnixListener) {
	var answers sync.WaitGroup
	defer answers.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return // it is closed
		}
		answers.Go(func() { k.answer(c) })
	}
}

// answer answers one request.
func (k *keeper) answer(c net.Conn) {
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(askPatience))
	var q request
	a := &answer{}
	if err := json.NewDecoder(io.LimitReader(c, maxRequest)).Decode(&q); err != nil {
		a.Error = fmt.Sprintf("the request is not understood: %v", err)
	} else {
		a = k.carryOut(&q)
	}
	if k.isDown() { // by this request, or a lab could not begin
		defer k.finish() // when the answer is written
	}
	_ = c.SetWriteDeadline(time.Now().Add(askPatience))
	_ = json.NewEncoder(c).Encode(a)
}

func (k *keeper) carryOut(q *request) *answer {
	switch {
	case q.Apply != nil:
		done, err := k.apply(q.Apply)
		if err != nil {
			return &answer{Error: err.Error()}
		}
		return &answer{Applied: done}
	case q.Status:
		return &answer{Status: k.status()}
	case q.Down:
		k.stopAll()
		return &answer{Status: k.status()}
	}
	return &answer{Error: "nothing is asked for"}
}
