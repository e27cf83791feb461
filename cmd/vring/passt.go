package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/passtopt"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/internal/supervisor"
)

// calledVring is set in the environment of all processes that vring starts itself, whatever the name of its file.
const calledVring = "VRING_CALLED_VRING"

// asCalled puts the command into words that begin with the name of a program that vring can take the place of, as a program is called that has
// its place.
func asCalled(words []string) []string {
	if len(words) == 0 || os.Getenv(calledVring) != "" {
		return words
	}
	for _, command := range []string{passtCommand, gvproxyCommand} {
		if strings.Contains(filepath.Base(words[0]), command) {
			_ = os.Setenv(calledVring, "1") // fails for names that are none only
			return slices.Concat([]string{words[0], command}, words[1:])
		}
	}
	return words
}

const passtCommand = "passt"

// newPasst is "vring passt". Its words are passt's, so none of them is a flag of ours.
func newPasst() *cobra.Command {
	return &cobra.Command{
		Use:   passtCommand + " [OPTION]...",
		Short: "Serve one guest in the place of passt, with its command line",
		Long: `Takes passt's command line as it is, and follows its start and stop: QEMU's -netdev passt, libvirt's back end and others start it without
knowing. It is the same under the name passt: a link or copy of vring that is called so.

The guest gets the host's own address, mask, gateway and resolvers, or those that are given. As with passt, and other than with
vring nat, forwards without an address are open to other machines, and the gateway's address leads to the host's loopback
(--no-map-gw closes it). docs/passt.md tells what is the same and what is different.

  passt --vhost-user --socket /tmp/vm0.sock -t 2222:22          in the background, when it is ready
  qemu-system-x86_64 ... -netdev passt,id=net,path=/usr/local/bin/passt,vhost-user=on,tcp-ports=2222:22

--vring-option KEY=VALUE, which may be repeated, sets what vring nat knows and passt does not:
  --vring-option deny=192.168.0.0/16 --vring-option control=/run/vm0.ctl

The options:
` + strings.TrimRight(passtopt.OptionList, "\n"),
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, words []string) error {
			p := passt{words: words, stdout: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr()}
			err := p.run(cmd.Context())
			if err == nil {
				return nil
			}
			return p.fail(err)
		},
	}
}

// passt is one run under passt's command line.
type passt struct {
	words          []string
	stdout, stderr io.Writer
	options        passtopt.Options
	startup        passtStartup
}

func (p *passt) run(ctx context.Context) (err error) {
	if p.options, err = passtopt.Parse(p.words); err != nil {
		return err
	}
	switch p.options.Action {
	case passtopt.Help:
		_, err = io.WriteString(p.stdout, passtopt.Usage())
		return err
	case passtopt.Version:
		_, err = fmt.Fprintf(p.stdout, "passt (vring %s)\n", programVersion())
		return err
	case passtopt.Capabilities:
		_, err = fmt.Fprintln(p.stdout, `{"type": "net"}`)
		return err
	}
	isServer := supervisor.IsServer()
	if !isServer {
		if err := p.startup.begin(&p.options); err != nil {
			return err
		}
	}
	if err := p.chooseSocket(); err != nil {
		return err
	}
	plan, err := p.options.Translate(passtHost())
	if err != nil {
		return err
	}
	checked, err := p.check(&plan)
	if err != nil {
		return err
	}
	if isServer {
		return p.service(checked, &plan).serve(ctx)
	}
	if err := p.checkUser(checked, plan.RunAs); err != nil {
		return err
	}
	p.tell(&plan)
	if !p.options.Foreground {
		return p.startup.inBackground(p.words, &p.options)
	}
	if err := p.startup.openFiles(&p.options); err != nil {
		return err
	}
	s := p.service(checked, &plan)
	s.ready = p.startup.isReady
	return s.serve(ctx)
}

// service is what serves the guest.
func (p *passt) service(checked *daemon.Checked, plan *passtopt.Plan) *service {
	s := newService(checked, "--vring-option queues=N gives the guest more", p.stderr, nil)
	s.noHint, s.frames, s.user = true, p.options.Pcap, plan.RunAs
	return s
}

// checkUser returns why the guest cannot be served by a user that was named, nil if it can, or if none was.
func (p *passt) checkUser(checked *daemon.Checked, u *sandbox.User) error {
	config := checked.Config()
	switch {
	case u == nil, os.Geteuid() == u.UID && os.Getegid() == u.GID:
		return nil
	case os.Geteuid() != 0:
		return passtFault("Can't set GID to %d: %v", u.GID, unix.EPERM)
	case config.Sandbox != sandbox.On && config.Sandbox != sandbox.Strict:
		return passtFault("--runas %s: vring becomes another user in its sandbox only, which is off", u.Name)
	}
	return nil
}

// check returns what is served, with options of vring's own.
func (p *passt) check(plan *passtopt.Plan) (*daemon.Checked, error) {
	c := &plan.Config
	if len(p.options.Own) > 0 {
		nat := natCommand()
		var words []string
		for _, own := range p.options.Own {
			words = append(words, "--"+own)
		}
		if err := nat.cmd.ParseFlags(words); err != nil {
			return nil, fmt.Errorf("--vring-option: %w", err)
		}
		own, err := nat.whole()
		if err != nil {
			return nil, err
		}
		var names []daemon.Option
		for _, word := range givenFlags(nat.cmd.Flags(), "") {
			name, _, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
			if passtSays(name) {
				return nil, fmt.Errorf("--vring-option %s: an option of passt's sets this", name)
			}
			names = append(names, daemon.Option(name))
		}
		daemon.Adopt(c, &own, names...)
	}
	return c.Check()
}

// passtSays reports whether an option of vring nat is set by options of passt's.
func passtSays(name string) bool {
	switch name {
	case "socket-path", "fd", "client", "front-end", "one-off", "network", "network6", "guest-address", "router", "router-mac", "shared-network", "mtu":
		return true
	}
	return false
}

// tell prints what passt prints at its start, and what is done otherwise.
func (p *passt) tell(plan *passtopt.Plan) {
	if p.startup.isChild {
		return // that was done
	}
	if !p.options.Quiet {
		for _, line := range plan.Text {
			fmt.Fprintln(p.stderr, line)
		}
		if p.options.FD == nil {
			fmt.Fprintf(p.stderr, "UNIX domain socket bound at %s\n", p.options.Socket)
		}
	}
	notes := plan.Notes
	if !p.options.Quiet {
		notes = append(notes, plan.Exceptions...)
	}
	for _, note := range notes {
		fmt.Fprintf(p.stderr, "vring: %s\n", note)
	}
}

// fail prints why nothing is served, one line for each fault, and returns passt's exit status.
func (p *passt) fail(err error) error {
	var fault *passtopt.Fault
	switch told := (toldError{}); {
	case errors.As(err, &told):
	case errors.As(err, &fault):
		fmt.Fprintf(p.stderr, "passt: %s\n", fault)
		if fault.Usage {
			_, _ = io.WriteString(p.stderr, passtopt.Usage())
		}
	default:
		for _, one := range configfile.Flatten(err) {
			fmt.Fprintf(p.stderr, "passt: %v\n", spell(one))
		}
	}
	p.startup.copyFailure()
	return toldError{exitError}
}
