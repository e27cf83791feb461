package nat

// followRoutes reads what has changed on the host, and does what follows from it.
func (p *Port) followRoutes() {
	if p.news.Due(p.now) {
		p.again = p.news.Read(p.now, &p.pairs.changes) || p.again
		p.refreshGroups()
	}
	if p.news.Changes().Any() && p.now >= p.reviewAt {
		p.review()
	}
}

// closeNews closes what followRoutes reads.
func (p *Port) closeNews() {
	if p.worker != nil {
		p.worker.Unregister(p.news.FD())
	}
	p.news.Close()
}
