package bootcheck

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// moduleDir has the modules in the guest, each after those that it needs.
const moduleDir = "/modules"

// ErrNotAGuest is the error of RunGuest in a process that is not the first one of a machine.
var ErrNotAGuest = errors.New("this is for the guest that vring doctor --boot starts: it must be the first process of a machine")

// RunGuest is the life of the guest: it boots, gets a lease, answers requests, and switches the machine off. It returns in a process
// that is not the first one of a machine only.
func RunGuest() error {
	if os.Getpid() != 1 {
		return ErrNotAGuest
	}
	if err := live(); err != nil {
		fmt.Println(prefix + stateFailed + " " + err.Error())
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func live() error {
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	files, err := filepath.Glob(moduleDir + "/*.ko")
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := loadModule(file); err != nil {
			return err
		}
	}
	g, err := join()
	if err != nil {
		return err
	}
	return g.serve()
}

// loadModule loads a module. One that is there already is no error.
func loadModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load %s: %w", filepath.Base(file), err)
	}
	return nil
}

// serve answers requests, one at a time, until it is asked to end.
func (g *guest) serve() error {
	listener, err := net.Listen("tcp4", fmt.Sprintf(":%d", Port))
	if err != nil {
		return err
	}
	fmt.Println(prefix + stateReady)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		request, err := g.answer(conn)
		_ = conn.Close()
		switch {
		case request == requestEnd:
			return nil
		case request == requestRebind && err == nil:
			err = g.rebind()
			if err == nil {
				fmt.Println(prefix + stateReady)
			}
		}
		if err != nil {
			fmt.Println(prefix + stateFailed + " " + request + ": " + err.Error())
		}
	}
}

// answer answers a connection's request, and returns its word.
func (g *guest) answer(conn net.Conn) (string, error) {
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	words := strings.Fields(line)
	if len(words) == 0 {
		return "", errors.New("an empty request")
	}
	return words[0], g.do(words[0], words[1:], r, conn)
}

func (g *guest) do(request string, args []string, r io.Reader, w io.Writer) error {
	switch {
	case request == requestDescribe:
		return sendValue(w, g.describe())
	case request == requestReceive && len(args) == 1:
		n, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return err
		}
		return answerReceived(w, r, n)
	case request == requestEcho:
		_, err := io.Copy(w, r)
		return err
	case request == requestSend && len(args) == 1:
		n, err := strconv.ParseInt(args[0], 10, 64)
		return errors.Join(err, sendData(w, n))
	case request == requestDial && len(args) == 2:
		n, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return err
		}
		got, err := deliver(endpoint{"tcp4", args[0]}, n)
		if err != nil {
			got.Error = err.Error()
		}
		return sendValue(w, got)
	case request == requestRebind || request == requestEnd:
		return nil
	}
	return fmt.Errorf("an unknown request with %d arguments", len(args))
}

// answerReceived receives data and tells what came.
func answerReceived(w io.Writer, r io.Reader, n int64) error {
	got, err := receiveData(r, n)
	if err != nil {
		got.Error = err.Error()
	}
	return sendValue(w, got)
}

// deliver sends data to a server and returns what its peer got.
func deliver(to endpoint, n int64) (Received, error) {
	var got Received
	conn, err := ask(to, requestReceive, n)
	if err != nil {
		return got, err
	}
	defer func() { _ = conn.Close() }()
	if err := sendData(conn, n); err != nil {
		return got, err
	}
	return got, receiveValue(conn, &got)
}
