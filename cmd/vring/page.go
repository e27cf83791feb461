package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/cmd/vring/ui"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/sandbox"
)

// The page of --ui is a process of its own, as that of vring ui is: the server can be in the hands of a guest, and the page's port and
// token are not for it. It is started by the process that the user has started, which holds the other end of its standard input: the page
// ends when that process does, however that comes about.

// pageCommand is the hidden command by which vring starts itself as the page.
const pageCommand = "page"

// pageDuties are what the page is told on its standard input, in one line.
type pageDuties struct {
	Address netip.AddrPort // to listen at
	Control string         // path of the control socket
	Token   string
	Sandbox sandbox.Mode
}

// newPageCommand is the command that is the page. It answers by one line on standard output: what is wrong, or nothing.
func newPageCommand() *cobra.Command {
	return &cobra.Command{
		Use: pageCommand, Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Signals that are sent to all processes of a service are for the others. This one ends with its input.
			signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1)
			in := bufio.NewReader(cmd.InOrStdin())
			server, err := openPage(in)
			if err != nil {
				fmt.Fprintln(cmd.OutOrStdout(), err)
				return toldError{exitError}
			}
			fmt.Fprintln(cmd.OutOrStdout())
			ctx, end := context.WithCancel(context.Background())
			go func() {
				defer end()
				_, _ = io.Copy(io.Discard, in)
			}()
			return server.Serve(ctx)
		},
	}
}

// openPage opens the page that in tells of, and puts this process into a sandbox of its own.
func openPage(in *bufio.Reader) (*ui.Server, error) {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("the page is started by vring itself: %w", err)
	}
	var d pageDuties
	if err := json.Unmarshal(line, &d); err != nil {
		return nil, fmt.Errorf("the page is started by vring itself: %w", err)
	}
	l, err := daemon.Listen(d.Address)
	if err != nil {
		return nil, err
	}
	server, err := ui.New(l, d.Control, d.Token)
	if err != nil {
		return nil, err
	}
	_, err = sandbox.Enter(sandbox.Config{
		Mode: d.Sandbox, Dial: []string{d.Control}, Accept: true,
		Log: slog.New(slog.DiscardHandler), // the server tells the same of its own sandbox
	})
	return server, err
}

// startPage starts the page of a configuration, if it has one. tell logs where that is; it is called when guests are served.
func startPage(c *daemon.Config, log *slog.Logger) (tell func(), err error) {
	if !c.UI.IsValid() {
		return func() {}, nil
	}
	d := pageDuties{Address: c.UI, Control: c.ControlPath(), Token: ui.NewToken(), Sandbox: c.Sandbox}
	process, err := spawnPage(&d)
	if err != nil {
		return nil, wrongUse(fmt.Errorf("--ui %s: %w", d.Address, err))
	}
	go func() {
		if state, err := process.Wait(); err == nil {
			log.Error("the process with the web page has ended; restart vring to have it again", "how", state.String())
		}
	}()
	return func() { log.Info("web page", "url", ui.URL(d.Address.String(), d.Token)) }, nil
}

// spawnPage starts the process, which ends with this one. The error is what it says of its start.
func spawnPage(d *pageDuties) (*os.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// Of its input the other end stays open until this process ends, so nobody closes it.
	var in [2]int
	if err := unix.Pipe2(in[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	input := os.NewFile(uintptr(in[0]), "input")
	defer input.Close()
	answer, output, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	process, err := os.StartProcess(self, []string{self, pageCommand}, &os.ProcAttr{
		Files: []*os.File{input, output, os.Stderr}, Sys: &syscall.SysProcAttr{Setsid: true}, // no signal of the terminal is for it
	})
	_ = output.Close()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	if _, err := unix.Write(in[1], append(text, '\n')); err != nil { // a pipe takes that much
		return nil, os.NewSyscallError("write", err)
	}
	return process, said(answer)
}

// said returns what the page says of its start.
func said(answer io.Reader) error {
	line, err := bufio.NewReader(answer).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the process with the page has not started: %w", err)
	}
	if line = strings.TrimSpace(line); line != "" {
		return errors.New(line)
	}
	return nil
}
