package undo

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/tap"
)

// made makes files.
func made(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		require.NoError(t, os.WriteFile(path, nil, 0o600))
	}
}

// add adds files to a list.
func add(t *testing.T, l *List, of Owner, paths ...string) {
	t.Helper()
	for _, path := range paths {
		require.NoError(t, l.AddMade(path, of))
	}
}

// descriptors are how many the process has open.
func descriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

func TestWhatWasMadeIsRemovedAndNothingElse(t *testing.T) {
	dir, before := t.TempDir(), descriptors(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	made(t, at("forward"), at("guest"), at("process"), at("replaced"), at("gone"), at("beside"))
	var l List
	add(t, &l, OfForward, at("forward"), at("replaced"), at("gone"))
	add(t, &l, OfGuest, at("guest"))
	add(t, &l, OfProcess, at("process"))
	require.Equal(t, 5, l.Len())
	require.True(t, l.Has(at("guest")))

	require.ErrorContains(t, l.Remove(at("guest"), OfForward), "is not the socket of a forward")
	require.ErrorContains(t, l.Remove(at("beside"), OfGuest), "is not the socket of a guest")
	require.FileExists(t, at("guest"))
	require.NoError(t, l.Remove(at("guest"), OfGuest))
	require.NoFileExists(t, at("guest"))
	require.False(t, l.Has(at("guest")))

	require.NoError(t, os.Remove(at("gone")))
	require.NoError(t, os.Remove(at("replaced")))
	made(t, at("replaced"))
	require.NoError(t, l.Undo())
	for name, there := range map[string]bool{"forward": false, "process": false, "replaced": true, "beside": true} {
		_, err := os.Lstat(at(name))
		require.Equal(t, there, err == nil, name)
	}
	require.Zero(t, l.Len())
	made(t, at("forward"))
	require.NoError(t, l.Undo(), "again")
	require.FileExists(t, at("forward"))
	require.Equal(t, before, descriptors(t))
}

// A file keeps its number as long as it is on the list, so that none that comes later is taken for it, as most file systems would have it.
func TestAFileThatTakesAPlaceIsAnotherOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	made(t, path)
	var l List
	add(t, &l, OfForward, path)
	require.NoError(t, os.Remove(path))
	made(t, path)
	require.NoError(t, passOn(t, &l).Undo())
	require.NoError(t, l.Undo())
	require.FileExists(t, path)
}

// passOn is the list as another process has it.
func passOn(t *testing.T, l *List) *List {
	t.Helper()
	text, err := json.Marshal(l)
	require.NoError(t, err)
	other := new(List)
	require.NoError(t, json.Unmarshal(text, other))
	return other
}

// settings are those of a device that was there.
func settings() *tap.Settings {
	return &tap.Settings{MTU: 1400, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Up: true, Master: 7, VLANs: map[uint16]uint16{1: 6, 4094: 0}}
}

func TestAListThatIsPassedOnUndoesTheSame(t *testing.T) {
	dir, before := t.TempDir(), descriptors(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	made(t, at("forward"), at("guest"), at("replaced"), at("gone"))
	var l List
	add(t, &l, OfForward, at("forward"), at("replaced"), at("gone"))
	add(t, &l, OfGuest, at("guest"))
	devices := []tap.Changes{
		{TAP: "tap0", Index: 17, Bridge: "br0"}, {TAP: "tap1", Index: 18, Was: settings()}, {TAP: "tap2", Index: 19, Was: &tap.Settings{VLANs: map[uint16]uint16{}}},
	}
	for _, c := range devices {
		l.SetDevice(c)
	}
	require.NoError(t, os.Remove(at("gone")))
	require.NoError(t, os.Remove(at("replaced")))
	made(t, at("replaced"))

	other := passOn(t, &l)
	require.Equal(t, devices, other.devices)
	require.Equal(t, []string{"tap0", "tap1", "tap2"}, other.Devices())
	require.Equal(t, []string{at("forward"), at("guest")}, other.Files(), "what is not there any more is left out")
	l.Release()
	require.NoError(t, l.Undo(), "it is the other's")
	require.FileExists(t, at("forward"))
	require.Equal(t, 4, len(l.Files()), "what it was is known")
	l.Release()

	require.ErrorContains(t, other.Remove(at("guest"), OfForward), "is not the socket of a forward")
	third := passOn(t, other)
	other.Release()
	third.devices = nil
	require.NoError(t, third.Remove(at("guest"), OfGuest), "it is still whose it was")
	require.NoError(t, third.Undo())
	require.NoFileExists(t, at("forward"))
	require.NoFileExists(t, at("guest"))
	require.FileExists(t, at("replaced"))
	require.Equal(t, before, descriptors(t))
}

// What is read takes the place of what was there, and nothing does after an error.
func TestAListThatCannotBeReadChangesNothing(t *testing.T) {
	dir, before := t.TempDir(), descriptors(t)
	path := filepath.Join(dir, "s")
	made(t, path)
	file, err := socketfile.Made(path)
	require.NoError(t, err)
	device, number := file.Numbers()
	good := fmt.Sprintf(`{"Path":%q,"Device":%d,"Number":%d}`, path, device, number)
	for name, c := range map[string]struct{ text, want string }{
		"nothing":              {``, "EOF"},
		"no list":              {`[]`, "cannot unmarshal"},
		"no version":           {`{}`, "a list of version 0, and this is for version 1"},
		"a later version":      {`{"Version":2}`, "a list of version 2, and this is for version 1"},
		"what is not known":    {`{"Version":1,"Routes":[]}`, `unknown field "Routes"`},
		"two lists":            {`{"Version":1}{"Version":1}`, "there is more than a list"},
		"too long":             {`{"Version":1}` + strings.Repeat(" ", maxSize), "are the most"},
		"too many files":       {`{"Version":1,"Files":[{}` + strings.Repeat(`,{}`, maxFiles) + `]}`, "are too many"},
		"too many devices":     {`{"Version":1,"Devices":[{}` + strings.Repeat(`,{}`, maxDevices) + `]}`, "are too many"},
		"no path":              {`{"Version":1,"Files":[{"Number":1}]}`, "is not the path of a file"},
		"a way out":            {`{"Version":1,"Files":[{"Path":"/run/../etc/passwd"}]}`, "is not the path of a file"},
		"a path that ends":     {`{"Version":1,"Files":[{"Path":"/s\u0000/x"}]}`, "is not the path of a file"},
		"a long path":          {`{"Version":1,"Files":[{"Path":"/` + strings.Repeat("a", 4096) + `"}]}`, "is not the path of a file"},
		"nobody's file":        {`{"Version":1,"Files":[{"Path":"/s","Of":3}]}`, "is not the path of a file"},
		"a file twice":         {`{"Version":1,"Files":[` + good + `,` + good + `]}`, "is there twice"},
		"no device":            {`{"Version":1,"Devices":[{"TAP":"a/b","Index":1}]}`, "not a name of an interface"},
		"no index":             {`{"Version":1,"Devices":[{"TAP":"tap0"}]}`, "no interface has the index 0"},
		"no bridge":            {`{"Version":1,"Devices":[{"TAP":"tap0","Index":1,"Bridge":"a b"}]}`, "not a name of an interface"},
		"an MTU":               {`{"Version":1,"Devices":[{"TAP":"tap0","Index":1,"Was":{"MTU":65536}}]}`, "MTU 65536"},
		"an address":           {`{"Version":1,"Devices":[{"TAP":"tap0","Index":1,"Was":{"MAC":"AAAA"}}]}`, "is not an address of Ethernet"},
		"a bridge before":      {`{"Version":1,"Devices":[{"TAP":"tap0","Index":1,"Was":{"Master":-1}}]}`, "no bridge has the index -1"},
		"a VLAN":               {`{"Version":1,"Devices":[{"TAP":"tap0","Index":1,"Was":{"VLANs":{"4095":0}}}]}`, "VLAN 4095"},
		"a device twice":       {`{"Version":1,"Devices":[{"TAP":"tap0","Index":1},{"TAP":"tap0","Index":2}]}`, "is there twice"},
		"a file, then a fault": {`{"Version":1,"Files":[` + good + `,{"Path":"` + path + strings.Repeat("/a", 200) + `"},{"Path":"/` + strings.Repeat("a", 300) + `","Number":1}]}`, "file name too long"},
	} {
		t.Run(name, func(t *testing.T) {
			var l List
			add(t, &l, OfGuest, path)
			require.ErrorContains(t, l.UnmarshalJSON([]byte(c.text)), c.want)
			require.Equal(t, []string{path}, l.Files())
			l.Release()
			require.Equal(t, before, descriptors(t))
		})
	}
	var l List
	add(t, &l, OfGuest, path)
	l.SetDevice(tap.Changes{TAP: "tap0", Index: 1})
	require.NoError(t, l.UnmarshalJSON([]byte(`{"Version":1}`)))
	require.Zero(t, l.Len())
	require.Equal(t, before, descriptors(t))
}

func TestAListThatNobodyCouldReadIsNotWritten(t *testing.T) {
	var l List
	l.SetDevice(tap.Changes{TAP: "tap0"})
	_, err := json.Marshal(&l)
	require.ErrorContains(t, err, "no interface has the index 0")
}

func TestDevicesAreUndoneOneByOneOrTogether(t *testing.T) {
	runtime.LockOSThread() // and never unlock: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("a network namespace for the test: %v; these tests need root", err)
	}
	exists := func(name string) bool { _, err := netlink.LinkByName(name); return err == nil }
	var l List
	for i, name := range []string{"tap0", "tap1", "tap2"} {
		device, err := tap.Open(tap.Config{Name: name, Queues: 1, Bridge: fmt.Sprint("br", i)})
		require.NoError(t, err)
		l.SetDevice(tap.Changes{TAP: name, Index: 1 << 20}) // of a device that was there before
		l.SetDevice(device.Changes())
		require.NoError(t, device.Close())
	}
	require.Equal(t, 3, l.Len())
	require.NoError(t, l.UndoDevice("tap1"))
	require.Equal(t, []bool{true, false, true}, []bool{exists("br0"), exists("br1"), exists("br2")})
	require.Equal(t, []string{"tap0", "tap2"}, l.Devices())
	require.NoError(t, l.UndoDevice("tap1"), "there is nothing of it")
	require.NoError(t, passOn(t, &l).Undo())
	require.Equal(t, []bool{false, false, false}, []bool{exists("br0"), exists("br1"), exists("br2")})
}

// What comes from elsewhere is refused or means one thing: what is written again is read as the same.
func FuzzDecode(f *testing.F) {
	l := List{devices: []tap.Changes{{TAP: "tap0", Index: 1, Bridge: "br0", Was: settings()}}}
	text, err := json.Marshal(&l)
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte(`{"Version":1,"Files":[{"Path":"/run/s","Device":1,"Number":2,"Of":1}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := decode(text)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(p.Files), maxFiles)
		again, err := json.Marshal(p)
		require.NoError(t, err)
		same, err := decode(again)
		require.NoError(t, err)
		text, err = json.Marshal(same)
		require.NoError(t, err)
		require.Equal(t, string(again), string(text))
		for _, file := range p.Files {
			require.NotContains(t, file.Path, "\x00")
			require.Equal(t, filepath.Clean(file.Path), file.Path)
		}
	})
}
