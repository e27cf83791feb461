package nat

// followRoutes reads what has changed on the host, and does what follows from it.
func (p *Port) followRoutes(t *turn) {
	if p.news.Due(t.now) {
		t.again = p.sources.read(&p.news, t.now) || t.again
		p.groups.refreshGroups(p.sources.changes())
	}
	if p.news.Changes().Any() && t.now >= p.reviewAt {
		p.review(t)
	}
}

// closeNews closes what followRoutes reads.
func (p *Port) closeNews() {
	if p.shard.worker != nil {
		p.shard.worker.Unregister(p.news.FD())
	}
	p.news.Close()
}
