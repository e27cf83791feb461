package netem

// Counters are plain numbers of a queue pair's thread. Each frame that is dropped is in one of them. Out is from the guest, In is to it.
type Counters struct {
	OutLost       uint64 `counter:"link_out_lost" kind:"drop" help:"Frames of the guest that were lost on its emulated link, as it says."`
	OutQueueDrops uint64 `counter:"link_out_queue_drops" kind:"drop" help:"Frames of the guest for which the queue of its emulated link had no room."`
	OutStoreDrops uint64 `counter:"link_out_store_drops" kind:"drop" help:"Frames of the guest that were more than can be under way on its emulated link at once."`
	OutDiscarded  uint64 `counter:"link_out_discarded" kind:"drop" help:"Frames of the guest that were under way on its emulated link when its driver was reset or its front end had gone."`
	OutBad        uint64 `counter:"link_out_bad" kind:"drop" help:"Frames of the guest that its emulated link cannot read: malformed chains, and virtio-net headers that lie."`
	OutDamaged    uint64 `counter:"link_out_damaged" kind:"drop" help:"Frames of the guest that were corrupted on its emulated link, and dropped since a checksum shows it."`
	OutDuplicated uint64 `counter:"link_out_duplicated" help:"Copies of frames of the guest that its emulated link has made."`
	OutReordered  uint64 `counter:"link_out_reordered" help:"Frames of the guest that were late on its emulated link, so that later ones overtook them."`
	OutCorrupted  uint64 `counter:"link_out_corrupted" help:"Frames of the guest that were corrupted on its emulated link."`

	InLost       uint64 `counter:"link_in_lost" kind:"drop" help:"Frames to the guest that were lost on its emulated link, as it says."`
	InQueueDrops uint64 `counter:"link_in_queue_drops" kind:"drop" help:"Frames to the guest for which the queue of its emulated link had no room."`
	InStoreDrops uint64 `counter:"link_in_store_drops" kind:"drop" help:"Frames to the guest that were more than can be under way on its emulated link at once."`
	InDiscarded  uint64 `counter:"link_in_discarded" kind:"drop" help:"Frames to the guest that were under way on its emulated link when its driver was reset or its front end had gone."`
	InTooLong    uint64 `counter:"link_in_too_long" kind:"drop" help:"Frames to the guest behind its emulated link that were longer than its buffers."`
	InDuplicated uint64 `counter:"link_in_duplicated" help:"Copies of frames to the guest that its emulated link has made."`
	InReordered  uint64 `counter:"link_in_reordered" help:"Frames to the guest that were late on its emulated link, so that later ones overtook them."`
	InCorrupted  uint64 `counter:"link_in_corrupted" help:"Frames to the guest that were corrupted on its emulated link."`
}

func (c *Counters) out() *pathCounters {
	return &pathCounters{&c.OutLost, &c.OutDuplicated, &c.OutReordered, &c.OutCorrupted, &c.OutQueueDrops, &c.OutStoreDrops, &c.OutDiscarded}
}

func (c *Counters) in() *pathCounters {
	return &pathCounters{&c.InLost, &c.InDuplicated, &c.InReordered, &c.InCorrupted, &c.InQueueDrops, &c.InStoreDrops, &c.InDiscarded}
}
