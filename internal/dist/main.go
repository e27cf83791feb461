package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "dist: %v\n", err)
		os.Exit(1)
	}
}

// run makes everything, and replaces what an earlier run left.
func run(ctx context.Context) error {
	out := flag.String("out", "dist", "`directory` for what is made; files of the same names are replaced")
	archs := flag.String("arch", "amd64,arm64", "`list` of architectures, by their names in Go")
	version := flag.String("version", "", "`version`, such as 1.2.3; only for a tree without git, where SOURCE_DATE_EPOCH must be set, too")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("there is an argument %q; all is said by flags: see --help", flag.Arg(0))
	}

	dir, err := filepath.Abs(*out)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "vring-dist")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)

	release, err := findRelease(ctx, *version)
	if err != nil {
		return err
	}
	d := &dist{release: release, out: dir, work: work}
	for arch := range strings.SplitSeq(*archs, ",") {
		if err := d.makeFor(ctx, arch); err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
	}
	return d.writeSums()
}

// dist is one run.
type dist struct {
	release release
	out     string   // directory of what is made
	work    string   // directory of this run, removed at its end
	made    []string // names of the files in out, in the order in which they were made
	pages   string   // directory of what the program writes about itself, "" until it is there
}

// makeFor makes what there is for one architecture.
func (d *dist) makeFor(ctx context.Context, arch string) error {
	if !known(arch) {
		return fmt.Errorf("vring is made for %s", strings.Join(architectures, " and "))
	}
	binary := d.path("vring_%s_linux_%s", d.release.version, arch)
	steps := []struct {
		file string
		make func(context.Context) error
	}{
		{binary, func(ctx context.Context) error { return d.build(ctx, arch, binary) }},
		{d.path("vring_%s_%s.deb", d.release.debian(), arch), func(ctx context.Context) error { return d.pack(ctx, arch, binary) }},
		{d.path("vring_%s_%s.oci.tar", d.release.version, arch), func(context.Context) error { return d.writeImage(arch, binary) }},
		{d.path("vring_%s_%s.cdx.json", d.release.version, arch), func(ctx context.Context) error { return d.writeBill(ctx, arch, binary) }},
	}
	for _, step := range steps {
		if err := step.make(ctx); err != nil {
			return fmt.Errorf("make %s: %w", filepath.Base(step.file), err)
		}
		info, err := os.Stat(step.file)
		if err != nil {
			return err
		}
		fmt.Printf("%s, %.1f MB\n", step.file, float64(info.Size())/1e6)
		d.made = append(d.made, filepath.Base(step.file))
	}
	return nil
}

// path returns where a file that is made belongs.
func (d *dist) path(format string, args ...any) string {
	return filepath.Join(d.out, fmt.Sprintf(format, args...))
}
