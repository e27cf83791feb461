package worker

// DriverReset tells that the guest's driver has reset its device, and knows nothing of what was before. All rings are
// stopped and disabled. Ports begin a run without features, until the next driver has acknowledged some.
func (d *Device) DriverReset() error {
	return d.each(func(l *loop) error {
		l.state.Reset = true
		l.tellPort()
		return l.setFeatures(0)
	})
}

// DriverGone tells that the guest's driver seems to have reset its device. A ring that starts shows the contrary.
func (d *Device) DriverGone() error {
	return d.each(func(l *loop) error {
		if !l.rx.runs() && !l.tx.runs() {
			l.state.Reset = true
			l.tellPort()
		}
		return nil
	})
}
