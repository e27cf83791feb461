package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/labfile"
	"github.com/vringnet/vring/internal/labrun"
	"github.com/vringnet/vring/internal/regularfile"
)

// labCommand has the flags of "vring lab", which all of its verbs share.
type labCommand struct {
	name string
}

// newLab is "vring lab".
func newLab() *cobra.Command {
	var l labCommand
	cmd := &cobra.Command{
		Use:   "lab VERB LAB.yaml",
		Short: "Start a network of guests that a file describes, and take it down",
		Long: `A lab is a network of guests in one file: switches, guests with their programs, names, addresses, forwards and links. It needs no root.

  switches:
    - switch-name: lan
  guests:
    - name: web
      switch: lan
      nat: {forwards: ["8080:80"]}
      run: qemu-system-x86_64 -enable-kvm -m 512M -drive file=web.qcow2,if=virtio
    - name: db
      switch: lan
      nat: {restrict: true}
      link: lte
      run: qemu-system-x86_64 -enable-kvm -m 512M -drive file=db.qcow2,if=virtio

The keys are those of vring serve, and run: and restart: below guests. docs/labs.md explains them, and has examples.

  vring lab check two.yaml                          says all that is wrong, or that nothing is
  vring lab up two.yaml                             starts the lab, or what is new in its file; it goes on in the background
  vring lab status two.yaml
  vring lab exec two.yaml web -- uname -a           by ssh
  vring lab capture two.yaml web -w web.pcapng
  vring lab graph two.yaml > two.svg
  vring lab down two.yaml

A lab is called as its file, without the suffix; --name calls it otherwise.`,
		Args: noVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.PersistentFlags().StringVar(&l.name, "name", "", "what the lab is called, if not as its file")
	cmd.AddCommand(l.upCommand(), l.downCommand(), l.statusCommand(), l.graphCommand(), l.execCommand(), l.captureCommand(), l.checkCommand(), newLabSchema())
	return cmd
}

// oneLab wants the file of a lab.
func oneLab(cmd *cobra.Command, args []string) error {
	if len(args) == 1 && args[0] != "" {
		return nil
	}
	return wrongUse(fmt.Errorf("want the file of a lab, as in %s lab.yaml; there are %d arguments", cmd.CommandPath(), len(args)))
}

// called is what the lab of a file is called.
func (l *labCommand) called(file string) string {
	if l.name != "" {
		return l.name
	}
	base := filepath.Base(file)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// place is the place of the lab of a file.
func (l *labCommand) place(file string) (labrun.Place, error) {
	p, err := labrun.PlaceOf(runtimeDir(), l.called(file))
	if err != nil && l.name == "" {
		err = fmt.Errorf("%w; --name gives it another name", err)
	}
	return p, wrongUse(err)
}

// parseLab reads the file of a lab with a directory.
func parseLab(file, dir string) (*labfile.Lab, error) {
	text, err := regularfile.Read(file, daemon.MaxConfigFile)
	if err != nil {
		return nil, wrongUse(err)
	}
	read, err := labfile.Parse(file, text, dir, daemon.LookupGroup)
	return read, wrongFile(err)
}

// planOf is what is to run of a lab.
func planOf(read *labfile.Lab, file, dir string) (*labrun.Plan, error) {
	text, err := configfile.Marshal(&read.Config, configfile.Short)
	if err != nil {
		return nil, wrongUse(err)
	}
	absolute, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	p := &labrun.Plan{File: absolute, Config: string(text), Control: labfile.ControlSocket(dir)}
	var faults []error
	for i := range read.Guests {
		g := &read.Guests[i]
		if len(g.Run) == 0 {
			continue
		}
		words, err := g.Command(versionOf)
		if err != nil {
			faults = append(faults, configfile.Flatten(err)...)
			continue
		}
		p.Guests = append(p.Guests, labrun.Program{Name: g.Name, Words: words, Restart: string(g.Restart)})
	}
	if len(faults) > 0 {
		return nil, usageError{faults}
	}
	return p, nil
}

// inDirectoryOf calls do while the directory of a file is the current one, from which relative paths of the file are seen.
func inDirectoryOf(file string, do func() error) error {
	before, err := os.Getwd()
	if err != nil {
		return err
	}
	if err := os.Chdir(filepath.Dir(file)); err != nil {
		return err
	}
	return errors.Join(do(), os.Chdir(before))
}

// explainLab adds to an error what to do.
func (l *labCommand) explainLab(file string, err error) error {
	if errors.Is(err, labrun.ErrDown) {
		return fmt.Errorf("the lab %s is not up; vring lab up %s starts it", l.called(file), shellWord(file))
	}
	return err
}

// status returns that of a lab that is up.
func (l *labCommand) status(ctx context.Context, file string) (*labrun.Status, error) {
	place, err := l.place(file)
	if err != nil {
		return nil, err
	}
	s, err := place.Status(ctx)
	return s, l.explainLab(file, err)
}

func (l *labCommand) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check LAB.yaml", Short: "Say what is wrong with the file of a lab, or that nothing is", Args: oneLab, ValidArgsFunction: completeFile,
		Long: `Reads the file of a lab and says all that is wrong with it, each with its line and column. What the file names on this host is looked at
as vring lab up does. Ports are not opened, and nothing is started.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := os.MkdirTemp(runtimeDir(), "vring-check-*") // sockets are looked for in a directory that is there
			if err != nil {
				return err
			}
			defer func() { _ = os.RemoveAll(dir) }()
			read, err := parseLab(args[0], dir)
			if err != nil {
				return err
			}
			if _, err := planOf(read, args[0], dir); err != nil {
				return err
			}
			if err := inDirectoryOf(args[0], read.Check); err != nil {
				return wrongFile(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is right: %s\n", args[0], summary(&read.Config))
			return err
		},
	}
}

func newLabSchema() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of files of labs", Args: noArgs,
		Long: "Prints the JSON Schema (draft 2020-12) of files of labs, by which editors complete and check them.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(labfile.Schema())
			return err
		},
	}
}

func (l *labCommand) downCommand() *cobra.Command {
	return &cobra.Command{
		Use: "down LAB.yaml", Short: "End the guests of a lab and its network, and remove its state", Args: oneLab, ValidArgsFunction: completeFile,
		Long: `Ends the programs of the guests, and then the vring that serves them, each by SIGTERM, and after ten seconds by force. The sockets of the
lab, its logs and its directory are removed. The file need not be there any more.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			place, err := l.place(args[0])
			if err != nil {
				return err
			}
			err = place.Down(cmd.Context())
			if errors.Is(err, labrun.ErrDown) {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "the lab %s was not up\n", l.called(args[0]))
				return err
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the lab %s is down\n", l.called(args[0]))
			return err
		},
	}
}
