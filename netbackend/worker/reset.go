package worker

// DriverReset tells that the guest's driver has reset its device, and knows nothing of what was before. All rings are
// stopped and disabled. Ports begin a run without features, until the next driver has acknowledged some.
func (d *Device) DriverReset() error {
	return d.each(func(l *loop) error { return l.setFeatures(0) })
}
