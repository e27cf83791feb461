package lease

// Names is how many names of hosts are remembered.
func (b *Book) Names() int { return len(b.names) }
