package daemon

// SetLink takes the link of a guest up, as it is at first, or down: frames do not pass any more, in neither direction, whatever the guest and
// its front end do. Nothing ends by that, and the guest is not told. It lasts until it is set again or the process ends. Any goroutine may call
// it between Open and the end of Serve. The error is a NoGuestError, or tells of a thread that does not answer: it does so before its next turn.
func (d *Daemon) SetLink(guest string, up bool) error {
	s, err := d.find(guest)
	if err != nil {
		return err
	}
	s.linking.Lock()
	defer s.linking.Unlock()
	s.linkDown.Store(!up)
	return s.device.SetLink(up)
}
