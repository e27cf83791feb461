package nat

// readNews reads what has changed on the host.
func (p *Port) readNews() {
	if p.news.Due(p.now) {
		p.again = p.news.Read(p.now, &p.pairs.changes) || p.again
	}
}

// closeNews closes what readNews reads.
func (p *Port) closeNews() {
	if p.worker != nil {
		p.worker.Unregister(p.news.FD())
	}
	p.news.Close()
}
