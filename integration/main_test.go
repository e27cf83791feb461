package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/userland"
)

// built is what the tests run. TestMain sets it before the first test.
var built artifacts

// artifacts are the paths of files made for this run.
type artifacts struct {
	dir   string
	vring string // the program under test
	init  string // the guest's program
}

// image returns the initramfs of a guest. One for labs has VLANs and labPrograms, too.
func (a artifacts) image(u userland.Userland, uml, lab bool) string {
	return filepath.Join(a.dir, fmt.Sprintf("%d-uml=%t-lab=%t.cpio", u, uml, lab))
}

// labPrograms are what guests of a lab run, beside our own program.
var labPrograms = [...]string{"ip", "ethtool", "iperf3", "traceroute", "mtr", "mtr-packet"}

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
	a := artifacts{dir: dir, vring: filepath.Join(dir, "vring")}
	if err := guest.BuildProgram(ctx, a.vring, "./cmd/vring", "CGO_ENABLED=0"); err != nil {
		return a, err
	}
	var err error
	if a.init, err = guest.BuildInit(ctx, dir); err != nil {
		return a, err
	}
	for _, u := range both() {
		for _, lab := range []bool{false, true} {
			if err := a.writeImages(u, lab); err != nil {
				return a, err
			}
		}
	}
	return a, nil
}

// writeImages makes the images of the guests of a generation.
func (a artifacts) writeImages(u userland.Userland, lab bool) error {
	var modules []string
	image := guest.Image{Init: a.init}
	if lab {
		modules = append(modules, "8021q", "macvlan")
		for _, name := range labPrograms {
			path, err := guest.FindTool(name)
			if err != nil {
				return err
			}
			image.Programs = append(image.Programs, path)
		}
	}
	onQEMU, onUML := image, image
	var err error
	if onQEMU.Modules, err = guest.KernelModules(u, append(modules, "vmxnet3")...); err != nil {
		return err
	}
	if onUML.Modules, err = guest.UMLModules(u, append(modules, guest.IPv6Modules(u)...)...); err != nil {
		return err
	}
	return errors.Join(onQEMU.Write(a.image(u, false, lab)), onUML.Write(a.image(u, true, lab)))
}
