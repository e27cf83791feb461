package shard

// Hooks are what the parts of the engine that know no protocol ask of those that do. All of them are set when the engine is made.
// None is called for each frame. What lives on the stack is passed by value: the compiler cannot know what they do with a pointer.
type Hooks struct {
	Created      func(*Flow)                          // a flow has begun
	Closing      func(*Flow)                          // a flow is about to end, for whatever reason
	Released     func(*Flow)                          // the record of a flow is about to be freed
	Evicted      func(*Turn, *Flow)                   // a flow is to end for the sake of another one
	Located      func()                               // an address of the guest was found that something waited for
	Misaddressed func(t *Turn, k Packet, proto uint8) // a packet cannot be part of a conversation
}
