package guestmem

// Iovec is one piece of host memory, laid out as the kernel's struct iovec on 64-bit machines. It is a plain number to
// the garbage collector: the memory that it names is kept by its [Table].
type Iovec struct {
	Base uintptr // first byte
	Len  uint64  // bytes
}
