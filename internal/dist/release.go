package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// release is what is released.
type release struct {
	version string    // without a "v", such as 1.2.3 or, between tags, 0.0.0-20261130064739-928d536a8f5d
	stamp   string    // the version with a "v", which the linker writes into the binary
	time    time.Time // the commit's: all files have it
}

// debian returns the version in Debian's form. One between tags sorts before the version that it leads to, and by its time.
func (r release) debian() string { return strings.ReplaceAll(r.version, "-", "~") }

// versions are the forms of a version that both Go and Debian take.
var versions = regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.]+)*$`)

// findRelease asks git, or takes the version that was given for a tree without git.
func findRelease(ctx context.Context, given string) (release, error) {
	if given != "" {
		return givenRelease(given)
	}
	if changed, err := git(ctx, "status", "--porcelain"); err != nil {
		return release{}, fmt.Errorf("%w; in a tree without git use --version and SOURCE_DATE_EPOCH", err)
	} else if changed != "" {
		return release{}, fmt.Errorf("what is released must be committed; git status --porcelain tells:\n%s", changed)
	}
	committed, err := git(ctx, "log", "-1", "--format=%ct")
	if err != nil {
		return release{}, err
	}
	at, err := parseTime(committed)
	if err != nil {
		return release{}, err
	}
	if tag, err := git(ctx, "describe", "--exact-match", "--match", "v[0-9]*"); err == nil {
		return release{version: strings.TrimPrefix(tag, "v"), stamp: tag, time: at}, nil
	}
	hash, err := git(ctx, "rev-parse", "--short=12", "HEAD")
	if err != nil {
		return release{}, err
	}
	// The form of Go's own pseudo-versions.
	version := "0.0.0-" + at.Format("20060102150405") + "-" + hash
	return release{version: version, stamp: "v" + version, time: at}, nil
}

// givenRelease is a release of a tree without git. Packagers know the variable: https://reproducible-builds.org/specs/source-date-epoch.
func givenRelease(version string) (release, error) {
	if !versions.MatchString(version) {
		return release{}, fmt.Errorf("version %q: want one such as 1.2.3 or 1.2.3-rc1", version)
	}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return release{}, errors.New("with --version, set SOURCE_DATE_EPOCH to the time of the release, in seconds since 1970: files get it")
	}
	at, err := parseTime(epoch)
	if err != nil {
		return release{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return release{version: version, stamp: "v" + version, time: at}, nil
}

func parseTime(seconds string) (time.Time, error) {
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(n, 0).UTC(), nil
}

// git returns what a git command prints, without the newline at its end.
func git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return "", fmt.Errorf("git %s: %s", strings.Join(args, " "), strings.TrimSpace(string(exit.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}
