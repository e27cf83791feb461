package tap

// FD is the file descriptor of the Port's queue.
func (p *Port) FD() int { return p.queue.fd }
