package agent

import (
	"bufio"
	"errors"
	"io"
	"os/exec"
	"syscall"

	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// Spawn runs a command in a process of its own, which can be killed. The first event tells its number, the others are
// the command's. It ends when the command or its process does. The program must serve the console when it is not the first
// process.
func Spawn(args Arguments, event func(any)) (any, error) {
	command, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	child := exec.Command("/proc/self/exe")
	in, err := child.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := child.Start(); err != nil {
		return nil, err
	}
	event(proto.Spawned{Process: child.Process.Pid})
	request := proto.Request{ID: 1, Command: command, Args: args[1:]}
	_, err = io.WriteString(in, request.String()+"\n")
	if err == nil {
		err = relay(out, event)
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	return proto.Text{}, err
}

// relay passes on the events of a spawned process, until its command or the process has ended.
func relay(out io.Reader, event func(any)) error {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		a, ok := proto.ParseAnswer(lines.Text())
		switch {
		case !ok || a.ID == 0:
		case a.Kind == proto.Event:
			event(a.Payload)
		case a.Kind == proto.Error:
			return errors.New(string(a.Payload))
		default:
			return nil
		}
	}
	return nil
}

// Kill ends a spawned process with SIGKILL.
func Kill(args Arguments, _ func(any)) (any, error) {
	pid, err := args.Number(0)
	if err != nil {
		return nil, err
	}
	if pid <= 1 {
		return nil, errors.New("this is no spawned process")
	}
	return proto.Text{}, syscall.Kill(pid, syscall.SIGKILL)
}
