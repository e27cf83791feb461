// Package flowtable finds the flows of a guest by their keys, from several threads and without a lock.
//
// A [Table] gives each key an index, for as long as the flow lives. Whatever else there is of a flow lies beside the table: a [Slab]
// has one value for each index. So the table knows no protocol, and who has no slab of a protocol has nothing of its state.
//
// Each index belongs to one owner, by whose thread its flow is worked on. Only the owner changes what belongs to an index, here and
// in slabs. Others may look a key up, and ask who the owner is.
//
// # The life of an index
//
//   - [Table.Insert] takes a free index for a key, and gives it to an owner.
//   - [Table.Send] and [Table.Own] pass it from one owner to another.
//   - [Table.Unlink] takes the key out. Nobody finds the index by a lookup that begins later, and no event names it any more.
//   - [Table.Release] makes it free. It must not be called before every lookup has ended that began before Unlink: how the caller
//     knows that is not for this package to say. A lookup lasts until its result is used no more.
//
// The generation of an index changes each time that it is used anew, so that what names an index and a generation cannot mean
// another flow.
//
// What does not belong here: what a flow is, sockets, timers, lists of flows, and who may have how many.
package flowtable
