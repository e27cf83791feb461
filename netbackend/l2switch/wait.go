package l2switch

// waiting is how long a receiver has had no room for a sender.
type waiting struct {
	since    int64  // when it was first seen, or has taken something since; 0 for not at all
	released uint32 // of its inbox, as it was then
	vain     bool   // nothing was taken in all the time that there is
}

// end is for when there is room.
func (w *waiting) end() { w.since, w.vain = 0, false }

// patience bounds how long a sender waits for one receiver while frames for others may be behind: a tenth of the time.
type patience struct {
	left  int64 // nanoseconds
	at    int64 // when left was that
	since int64 // when the wait began that is charged; 0 for none
}

const patienceShare = 10

// resume ends a wait, if there was one.
func (w *patience) resume(now int64) {
	if w.since != 0 {
		w.left -= now - w.since
		w.since = 0
	}
}

// rest returns how long may be waited.
func (w *patience) rest(now, most int64) int64 {
	w.left = min(most, w.left+max(0, now-w.at)/patienceShare)
	w.at = now
	return w.left
}

// wait decides whether a frame waits for a receiver whose inbox has given slots back so many times. It returns when the frame
// is looked at again, 0 if it does not wait. charged says that frames for others may be behind.
func (p *Port) wait(w *waiting, now int64, released uint32, charged bool) (until int64) {
	most := int64(p.sw.cfg.Wait)
	if w.since == 0 || released != w.released {
		w.since, w.released, w.vain = now, released, false
	}
	rest := most - (now - w.since)
	if charged {
		rest = min(rest, p.patience.rest(now, 2*most))
	}
	if w.vain || rest <= 0 {
		w.vain = true
		return 0
	}
	if charged {
		p.patience.since = now
	}
	return now + rest
}
