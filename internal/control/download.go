package control

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

// download is an answer that goes on until its source ends, or its client hangs up. A client that does not read holds up its own alone.
type download struct {
	server *Server
	kind   string        // Content-Type
	limit  time.Duration // after which it ends as if the client had hung up; 0 for none
	// run writes the answer, and closes its source. ctx ends when the answer is to: a client that has shut down its own direction of the connection may
	// still be told the end. What write is given, it keeps no longer than the call.
	run func(ctx context.Context, write func([]byte) error)
}

// downloads are those that a server sends.
type downloads struct {
	closing context.Context // ends when the server closes
	end     context.CancelFunc
	running *atomic.Int32
}

func newDownloads() downloads {
	ctx, cancel := context.WithCancel(context.Background())
	return downloads{ctx, cancel, new(atomic.Int32)}
}

// any reports whether there are some.
func (d *downloads) any() bool { return d.running.Load() > 0 }

// send writes the answer. There is no bound on how long that takes, but for the rest once it is to end. While the client is waited for, its
// connection may have to make room for others.
func (d *download) send(w http.ResponseWriter, r *http.Request) {
	d.server.files.running.Add(1)
	defer d.server.files.running.Add(-1)
	ctx, cancel := d.until(r.Context())
	defer cancel()
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // that of the request would be taken for the client's end
	_ = control.SetWriteDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { _ = control.SetWriteDeadline(time.Now().Add(patience)) })
	defer stop()
	w.Header().Set("Content-Type", d.kind)
	w.WriteHeader(http.StatusOK)
	release := d.server.conns.hold(r.Context())
	defer func() { release() }()
	d.run(ctx, func(text []byte) error {
		release()
		defer func() { release = d.server.conns.hold(r.Context()) }()
		if _, err := w.Write(text); err != nil {
			return err
		}
		return control.Flush()
	})
}

// until returns a context that ends with the request, with the limit, and when the server closes.
func (d *download) until(request context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(request)
	stop := context.AfterFunc(d.server.files.closing, cancel)
	context.AfterFunc(ctx, func() { stop() }) // else the server would keep it
	if d.limit > 0 {
		timer := time.AfterFunc(d.limit, cancel)
		context.AfterFunc(ctx, func() { timer.Stop() })
	}
	return ctx, cancel
}
