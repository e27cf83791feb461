package l2switch

// budget is how many frames to many a guest may send: so many a second, and half of that at once.
type budget struct {
	rate int64 // frames per second, 0 for no limit
	left int64 // frames, in billionths
	at   int64 // when left was that
}

const billionth = int64(1e9)

func (b *budget) init(rate int) {
	b.rate = int64(rate)
	b.left = b.most()
}

func (b *budget) most() int64 { return (b.rate/2 + 1) * billionth }

// take takes a frame, and reports whether there was one left.
func (b *budget) take(now int64) bool {
	if b.rate == 0 {
		return true
	}
	if passed := min(max(0, now-b.at), billionth); passed > 0 {
		b.left = min(b.most(), b.left+passed*b.rate)
	}
	b.at = now
	if b.left < billionth {
		return false
	}
	b.left -= billionth
	return true
}

// giveBack gives frames back that were taken and not sent.
func (b *budget) giveBack(n int) { b.left += int64(n) * billionth }
