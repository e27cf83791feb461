package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/labrun"
)

// find returns the control socket that is meant.
func (c *ctl) find() (string, error) {
	switch {
	case c.control != "":
		return c.control, nil
	case c.socketPath != "":
		return findByGuest(c.socketPath)
	}
	all := answering(usualSockets())
	switch len(all) {
	case 1:
		return all[0], nil
	case 0:
		return "", wrongUse(errors.New("no vring of this user was found in " + strings.Join(usualPlaces(), ", ") + "; name its socket with --control PATH"))
	}
	return "", wrongUse(fmt.Errorf("several vrings are running; write one of\n    --control %s", strings.Join(all, "\n    --control ")))
}

// findByGuest returns the control socket of the process that has a guest's socket.
func findByGuest(socket string) (string, error) {
	first := socket + daemon.ControlSuffix
	if _, err := os.Stat(first); err == nil {
		return first, nil
	}
	beside, _ := filepath.Glob(filepath.Join(escapedDir(socket), "*"+daemon.ControlSuffix)) // the pattern is right
	for _, path := range beside {
		if slices.ContainsFunc(guestsAt(path), func(g api.Guest) bool { return g.Socket == socket }) {
			return path, nil
		}
	}
	return "", wrongUse(fmt.Errorf("--socket-path %s: no vring with that guest has its control socket beside it; name it with --control PATH", socket))
}

// escapedDir is the directory of a path as filepath.Glob reads it.
func escapedDir(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(filepath.Dir(path))
}

// usualPlaces are the directories in which control sockets are looked for.
func usualPlaces() []string {
	places := []string{"/run/vring", "/tmp"}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		places = append([]string{dir, filepath.Join(dir, "vring")}, places...)
	}
	return places
}

// usualSockets are the control sockets in usual places that this user may use, at least by their owner.
func usualSockets() (all []string) {
	for _, dir := range usualPlaces() {
		for _, pattern := range []string{"*", runPrefix + "*/*", labrun.Pattern, "*/*"} {
			if pattern == "*/*" && filepath.Base(dir) != "vring" { // each guest may have a directory of its own there
				continue
			}
			found, _ := filepath.Glob(filepath.Join(dir, pattern+daemon.ControlSuffix)) // the pattern is right
			all = append(all, slices.DeleteFunc(found, func(path string) bool { return !isOwn(path) })...)
		}
	}
	return all
}

// isOwn reports whether a path is a socket of this user. Anybody can make a file in /tmp. Root uses those of all users that are elsewhere.
func isOwn(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return false
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	return owner == os.Geteuid() || os.Geteuid() == 0 && filepath.Dir(path) != "/tmp"
}

// answering are the sockets at which somebody answers.
func answering(paths []string) (all []string) {
	for _, path := range paths {
		if guestsAt(path) != nil {
			all = append(all, path)
		}
	}
	return all
}

// guestsAt are the guests of the process with a control socket, nil if there is no answer.
func guestsAt(path string) (guests []api.Guest) {
	if !ask(path, "/v1/guests", &guests) {
		return nil
	}
	return guests
}

// ask asks the process with a control socket, and reports whether there is an answer soon.
func ask(path, what string, answer any) bool {
	const patience = 3 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := control.NewClient(path)
	defer client.Close()
	return client.Do(ctx, http.MethodGet, what, nil, answer) == nil
}
