package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vringnet/vring/integration/guest"
)

// built is what the tests run. TestMain sets it before the first test.
var built artifacts

// artifacts are the paths of files made for this run.
type artifacts struct {
	vring     string // the program under test
	qemuImage string // initramfs for virtual machines
	umlImage  string // initramfs for User-mode Linux

	// The same with the tools of labs: VLANs and the programs of labPrograms.
	qemuLabImage, umlLabImage string
}

// labPrograms are what guests of a lab run, beside our own program.
var labPrograms = [...]string{"ip", "ethtool", "iperf3"}

// buildLimit is generous: on a fresh machine everything is compiled.
const buildLimit = 10 * time.Minute

func TestMain(m *testing.M) {
	if socket := os.Getenv(floodVariable); socket != "" {
		floodForever(socket)
	}
	dir, err := os.MkdirTemp("", "vring")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildLimit)
	built, err = buildAll(ctx, dir)
	cancel()
	code := 1
	if err == nil {
		code = m.Run()
	}
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// buildAll makes the artifacts in a directory.
func buildAll(ctx context.Context, dir string) (artifacts, error) {
	a := artifacts{
		vring: filepath.Join(dir, "vring"), qemuImage: filepath.Join(dir, "qemu.cpio"), umlImage: filepath.Join(dir, "uml.cpio"),
		qemuLabImage: filepath.Join(dir, "qemu-lab.cpio"), umlLabImage: filepath.Join(dir, "uml-lab.cpio"),
	}
	if err := guest.BuildProgram(ctx, a.vring, "./cmd/vring"); err != nil {
		return a, err
	}
	init, err := guest.BuildInit(ctx, dir)
	if err != nil {
		return a, err
	}
	kernelModules, err := guest.KernelModules()
	if err != nil {
		return a, err
	}
	umlModules, err := guest.UMLModules(guest.IPv6Modules()...)
	if err != nil {
		return a, err
	}
	return a, errors.Join(
		guest.Image{Init: init, Modules: kernelModules}.Write(a.qemuImage),
		guest.Image{Init: init, Modules: umlModules}.Write(a.umlImage),
		a.writeLabImages(init))
}

// writeLabImages makes the images of guests in labs.
func (a artifacts) writeLabImages(init string) error {
	vlan := []string{"llc", "stp", "garp", "mrp", "8021q"}
	kernelModules, err := guest.KernelModules(vlan...)
	if err != nil {
		return err
	}
	umlModules, err := guest.UMLModules(append(vlan, guest.IPv6Modules()...)...)
	if err != nil {
		return err
	}
	var programs []string
	for _, name := range labPrograms {
		path, err := guest.FindTool(name)
		if err != nil {
			return err
		}
		programs = append(programs, path)
	}
	return errors.Join(
		guest.Image{Init: init, Modules: kernelModules, Programs: programs}.Write(a.qemuLabImage),
		guest.Image{Init: init, Modules: umlModules, Programs: programs}.Write(a.umlLabImage))
}
