// Package qemu runs QEMU as the front end of a test: with a guest of package guest, or with nothing but the boot program
// of its network card. The processor is emulated (TCG), so it runs without KVM.
//
// The machine monitor (QMP, see the QMP specification of QEMU) resets and pauses the guest, cuts its link, and tells
// where the rings are. A Machine and its QMP connection may be used by several goroutines.
package qemu
