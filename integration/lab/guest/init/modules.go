package main

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest/agent"
)

func insmod(args agent.Arguments, _ func(any)) (any, error) {
	name, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(agent.ModuleDir + "/*-" + name + ".ko")
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		return nil, os.ErrNotExist
	}
	return nil, agent.LoadModule(files[0])
}

func rmmod(args agent.Arguments, _ func(any)) (any, error) {
	name, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	return nil, os.NewSyscallError("unload "+name, unix.DeleteModule(name, unix.O_NONBLOCK))
}
