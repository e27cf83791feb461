package nat

// KernelMemoryOf returns how many bytes of the kernel's memory count as those of p's guest. Any thread may call it.
func KernelMemoryOf(p *Port) int64 { return p.shard.Pairs.Memory.Bytes() }
