package dns_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/services/dns"
)

const second = int64(time.Second)

// resolvConf writes a file of the given lines and returns its name.
func resolvConf(t *testing.T, lines ...string) string {
	name := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, name, lines...)
	return name
}

func write(t *testing.T, name string, lines ...string) {
	require.NoError(t, os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
}

// first returns the resolver to ask as text, "" if there is none.
func first(r *dns.Relay, now int64) string {
	a, ok := r.Next(now, dns.UDP, nil)
	if !ok {
		return ""
	}
	return a.String()
}

func TestConfiguredResolverWinsOverTheFile(t *testing.T) {
	r := dns.New(dns.Config{
		Servers: dns.Plain(netip.MustParseAddrPort("192.0.2.1:5353")),
		File:    resolvConf(t, "nameserver 192.0.2.9"),
	})
	require.Equal(t, "192.0.2.1:5353", first(r, 0))
}

func TestTakesTheFirstUsableResolverOfTheFile(t *testing.T) {
	file := resolvConf(t,
		"# a comment", "search lab.example", "nameserver", "nameserver host.example", "nameserver 0.0.0.0",
		"nameserver 224.0.0.1", "nameserver fd00::1", "nameserver 127.0.0.53", "nameserver 192.0.2.9")
	require.Equal(t, "[fd00::1]:53", first(dns.New(dns.Config{File: file}), 0))
	require.Equal(t, "127.0.0.53:53", first(dns.New(dns.Config{File: file, Usable: netip.Addr.Is4}), 0))
}

func TestFollowsTheFile(t *testing.T) {
	file := resolvConf(t, "nameserver 192.0.2.1")
	r := dns.New(dns.Config{File: file})
	require.Equal(t, "192.0.2.1:53", first(r, 0))

	write(t, file, "nameserver 192.0.2.22")
	require.Equal(t, "192.0.2.1:53", first(r, second-1), "looked at once a second")
	require.Equal(t, "192.0.2.22:53", first(r, second))

	replacement := file + ".new"
	write(t, replacement, "nameserver 192.0.2.33") // same length: only the inode tells
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.NoError(t, os.Chtimes(replacement, info.ModTime(), info.ModTime()))
	require.NoError(t, os.Rename(replacement, file))
	require.Equal(t, "192.0.2.33:53", first(r, 2*second))

	require.NoError(t, os.Remove(file))
	require.Equal(t, "192.0.2.33:53", first(r, 3*second), "it may be about to be written")
	require.Empty(t, first(r, 4*second))

	write(t, file, "nameserver 192.0.2.44")
	require.Equal(t, "192.0.2.44:53", first(r, 5*second))
}

// While a program writes the file, and when the host's tools for its network put a link to another directory in its place.
func TestAFileThatIsEmptyForAnInstantIsNoLoss(t *testing.T) {
	file := resolvConf(t, "nameserver 192.0.2.1")
	r := dns.New(dns.Config{File: file})
	require.Equal(t, "192.0.2.1:53", first(r, 0))
	write(t, file)
	require.Equal(t, "192.0.2.1:53", first(r, second))
	write(t, file, "nameserver 192.0.2.22")
	require.Equal(t, "192.0.2.22:53", first(r, 2*second))

	elsewhere := resolvConf(t, "nameserver 192.0.2.33")
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.Symlink(elsewhere, file))
	require.Equal(t, "192.0.2.33:53", first(r, 3*second))
}

// Whoever reads the file for the Relay may be unable to: that says nothing of the file.
func TestAFileThatCannotBeLookedAtLeavesWhatIsKnown(t *testing.T) {
	var fail error
	r := dns.New(dns.Config{File: "resolv.conf", Read: func(file string) ([]byte, error) {
		require.Equal(t, "resolv.conf", file)
		return []byte("nameserver 192.0.2.1\n"), fail
	}})
	require.Equal(t, "192.0.2.1:53", first(r, 0))
	fail = errors.New("nobody reads it")
	require.Equal(t, "192.0.2.1:53", first(r, second))
	require.Equal(t, "192.0.2.1:53", first(r, 2*second))
}

func TestOnlyTheBeginningOfALargeFileIsRead(t *testing.T) {
	file := resolvConf(t, strings.Repeat("#", 10*dns.MaxFile))
	text, err := dns.ReadFile(file)
	require.NoError(t, err)
	require.Len(t, text, dns.MaxFile)
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, unix.Mkfifo(pipe, 0o600))
	_, err = dns.ReadFile(pipe)
	require.ErrorContains(t, err, "is not a regular file")
}

// A host that is offline, or has a directory or a pipe in the file's place, must not stop the guest or the worker.
func TestWithoutAResolverThereIsNobodyToAsk(t *testing.T) {
	for name, file := range map[string]string{
		"none configured": "",
		"missing":         filepath.Join(t.TempDir(), "missing"),
		"a directory":     t.TempDir(),
		"empty":           resolvConf(t),
	} {
		t.Run(name, func(t *testing.T) { require.Empty(t, first(dns.New(dns.Config{File: file}), 0)) })
	}
}

func TestOtherResolversAreUsedAndOneThatStaysIsKnown(t *testing.T) {
	r, a := three(t)
	require.Equal(t, []byte{1, 2, 3}, order(r, 0, dns.UDP))
	r.Failed(0, dns.UDP, a[1])
	four := dns.Server{Addr: netip.MustParseAddrPort("192.0.2.4:53")}
	r.Use([]dns.Server{a[1], four}, "")
	require.Equal(t, []byte{4, 2}, order(r, 0, dns.UDP), "the file is not looked at, and the second has failed still")
	require.False(t, r.Knows(0, a[0]))
	r.Use(nil, "")
	require.Empty(t, order(r, 0, dns.UDP))
	r.Use(nil, resolvConf(t, "nameserver 192.0.2.5", "search example.net"))
	require.Equal(t, []byte{5}, order(r, 0, dns.UDP), "the file is looked at at once")
	require.Equal(t, []string{"example.net"}, r.Search(0))
	r.Use([]dns.Server{four}, "")
	require.Empty(t, r.Search(0))
}
