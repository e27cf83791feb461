package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// followRoutes reads what has changed on the host, and does what follows from it.
func (p *Port) followRoutes(t *shard.Turn) {
	if p.news.Due(t.Now) {
		t.Again = p.sources.Read(&p.news, t.Now) || t.Again
		p.groups.Refresh(p.sources.Changes())
	}
	p.review.Review(t)
}

// closeNews closes what followRoutes reads.
func (p *Port) closeNews() {
	if p.shard.Worker != nil {
		p.shard.Worker.Unregister(p.news.FD())
	}
	p.news.Close()
}
