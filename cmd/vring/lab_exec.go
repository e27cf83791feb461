package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func (l *labCommand) execCommand() *cobra.Command {
	var login string
	var options []string
	cmd := &cobra.Command{
		Use: "exec LAB.yaml GUEST [-- COMMAND...]", Short: "Run a command in a guest of a lab, by ssh", Args: labAndGuest, ValidArgsFunction: completeFile,
		Long: `Runs a command in a guest, or a shell, by this user's ssh, which connects by vring ctl connect: the guest is behind NAT and has an SSH server, and
needs no forward. The exit status is that of ssh.

  vring lab exec two.yaml web -- uname -a
  vring lab exec two.yaml web --login root --ssh-option IdentityFile=lab.key -- systemctl status

The guest's host key is not checked, as the way to the guest is vring's own, and guests are made anew.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := l.status(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			ssh, err := exec.LookPath("ssh")
			if err != nil {
				return fmt.Errorf("%w; install it (on Debian: apt install openssh-client)", err)
			}
			words := sshCommand(self, s.Control, l.called(args[0]), args[1], login, options, args[2:])
			return unix.Exec(ssh, words, os.Environ())
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(true)
	flags.StringVarP(&login, "login", "l", "", "user of the guest (default: as ssh chooses)")
	flags.StringArrayVar(&options, "ssh-option", nil, "option of ssh_config, as in IdentityFile=lab.key (repeatable)")
	return cmd
}

// sshCommand is the command line of ssh that runs a command in a guest.
func sshCommand(self, control, lab, guest, login string, options, command []string) []string {
	proxy := strings.Join([]string{shellWord(self), "ctl", "--control", shellWord(control), "connect", shellWord(guest + ":22")}, " ")
	words := []string{"ssh", "-o", "ProxyCommand=" + strings.ReplaceAll(proxy, "%", "%%"),
		"-o", "HostKeyAlias=" + lab + "." + guest, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"}
	for _, o := range options {
		words = append(words, "-o", o)
	}
	if login != "" {
		words = append(words, "-l", login)
	}
	return slices.Concat(words, []string{"--", guest}, command)
}
