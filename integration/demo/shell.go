package main

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/qemu"
)

// shell boots the guest and connects the user's terminal to it, until the guest is off.
func (d *demo) shell(ctx context.Context) error {
	page, err := serveHostPage()
	if err != nil {
		return err
	}
	defer page.Close()
	vring, err := d.prepare(ctx)
	if err != nil {
		return err
	}
	defer stopVring(vring)

	step("Booting the guest; try:")
	detail("wget -qO- http://10.0.2.2:%d/            a page of the host", hostPort)
	detail("nc -lk -p %d -e cat &                   then, on the host: nc 127.0.0.1 %d", guestPort, forwardPort)
	detail("exit, or Ctrl-A X                       to end")
	m, err := qemu.Start(ctx, qemu.Options{
		Dir: d.dir, Initrd: d.image, KernelArgs: "vring.shell", Socket: d.socket, Output: os.Stdout,
	})
	if err != nil {
		return err
	}
	defer func() { _ = m.Kill() }()
	restore := rawTerminal(int(os.Stdin.Fd()))
	defer restore()
	go func() {
		_, _ = io.Copy(m.Input, os.Stdin)
	}()
	<-m.Done()
	return nil
}

// rawTerminal hands every key to the guest, Ctrl-C too. restore undoes it. It does nothing if fd is not a terminal.
func rawTerminal(fd int) (restore func()) {
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {}
	}
	raw := *old
	raw.Iflag &^= unix.ICRNL | unix.IXON | unix.BRKINT | unix.ISTRIP
	raw.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	_ = unix.IoctlSetTermios(fd, unix.TCSETS, &raw)
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) }
}
