package labfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/qemuopt"
)

func noGroups(string) (int, error) { return 0, errors.New("there are no groups") }

const two = `switches:
  - switch-name: lan
guests:
  - name: web
    switch: {switch-name: lan, mac: "52:54:00:00:00:09"}
    nat: {forwards: ["8080:80"]}
    run: qemu-system-x86_64 -m 1G
    restart: on-failure
  - name: db
    switch: lan
    run: [linux.uml, "virtio_uml.device={socket}:1", "other={socket:web}"]
  - name: outside
    socket-path: /run/outside.sock
    switch: lan
`

func parsed(t *testing.T, text string) *Lab {
	l, err := Parse("lab.yaml", []byte(text), "/run/lab", noGroups)
	require.NoError(t, err)
	return l
}

func version(string) qemuopt.Version { return qemuopt.Version{Major: 11} }

func TestALabIsAConfigurationAndPrograms(t *testing.T) {
	l := parsed(t, two)
	require.Equal(t, "/run/lab/vring.ctl", l.Config.Control.Socket)
	var sockets []string
	for _, g := range l.Config.Guests {
		sockets = append(sockets, g.SocketPath)
	}
	require.Equal(t, []string{"/run/lab/web.sock", "/run/lab/db.sock", "/run/outside.sock"}, sockets)
	require.Equal(t, OnFailure, l.Guests[0].Restart)
	require.Equal(t, Never, l.Guests[1].Restart)
	require.Empty(t, l.Guests[2].Run)

	text, err := configfile.Marshal(&l.Config, configfile.Short)
	require.NoError(t, err)
	_, err = configfile.Parse("vring.yaml", text, noGroups)
	require.NoError(t, err, "vring serve reads it")
}

func TestQEMUGetsItsNetworkAndNoScreen(t *testing.T) {
	words, err := parsed(t, two).Guests[0].Command(version)
	require.NoError(t, err)
	require.Equal(t, []string{
		"qemu-system-x86_64", "-m", "1G", "-display", "none",
		"-object", "memory-backend-memfd,id=vring-memory,size=1G,share=on", "-machine", "memory-backend=vring-memory",
		"-chardev", "socket,id=vring,path=/run/lab/web.sock,reconnect-ms=1000", "-netdev", "vhost-user,id=vring-net,chardev=vring",
		"-device", "virtio-net-pci,netdev=vring-net,mac=52:54:00:00:00:09",
	}, words)
	words, err = parsed(t, "guests:\n  - {name: a, switch: lan, run: qemu-system-x86_64 -nographic}\n").Guests[0].Command(version)
	require.NoError(t, err)
	require.NotContains(t, words, "-display")
	require.Contains(t, words[len(words)-1], "mac=52:54:00:ca:97:81", "no two guests have QEMU's usual address")
}

func TestOtherProgramsAreToldTheirSockets(t *testing.T) {
	words, err := parsed(t, two).Guests[1].Command(version)
	require.NoError(t, err)
	require.Equal(t, []string{"linux.uml", "virtio_uml.device=/run/lab/db.sock:1", "other=/run/lab/web.sock"}, words)
}

func TestWhatIsWrongHasItsPlace(t *testing.T) {
	guest := "guests:\n  - name: a\n    switch: lan\n    "
	for text, want := range map[string]string{
		"guests:\n  - switch: lan\n":                          "lab.yaml:2:5: a guest has a name here",
		"guests:\n  - name: a\n":                              "lab.yaml:2:5: the guest a has no network",
		"guests:\n  - name: a\n    fd: 3\n    switch: lan\n":  "lab.yaml:3:5: fd is for a guest without a network of its own",
		guest + "run: qemu-system-x86_64 -append 'a b'\n":     "lab.yaml:4:10: run: quotes have no meaning in a text",
		guest + "run: []\n":                                   "lab.yaml:4:10: run: want a program",
		guest + "run: [[a]]\n":                                "lab.yaml:4:11: run: want one value",
		guest + "restart: always\n":                           "lab.yaml:4:14: restart: the guest a has no run:",
		guest + "run: a {socket}\n    restart: now\n":         `lab.yaml:5:14: restart "now": want never, on-failure or always`,
		guest + "rum: a {socket}\n":                           `lab.yaml:4:5: a guest has no key "rum"; did you mean run?`,
		"control: /x\n" + guest + "run: a {socket}\n":         "lab.yaml:1:1: control: a lab has its own",
		"nat:\n" + guest + "run: a {socket}\n":                "lab.yaml:1:1: nat: guests have networks of their own here",
		guest + "run: a {socket}\n    run: b {socket}\n":      "lab.yaml:5:5: run is given twice",
		"one-off: true\n" + guest + "run: a {socket}\n":       "lab.yaml:1:1: one-off: a lab is there until vring lab down",
		"guests:\n  - name: a\n    tap: t\n    run: &x [a]\n": "anchors",
	} {
		_, err := Parse("lab.yaml", []byte(text), "/run/lab", noGroups)
		require.ErrorContains(t, err, want, text)
	}
	for text, want := range map[string]string{
		guest + "run: sleep 1\n":                                                 "lab.yaml:4:10: run of a: the program is not QEMU, and is not told its socket",
		guest + "run: qemu-system-x86_64 -daemonize\n":                           "lab.yaml:4:10: run of a: -daemonize",
		guest + "run: [\"qemu-system-x86_64\", \"-nic\", \"user,hostname=x\"]\n": "belong below nat: of the guest here: --hostname=x",
		guest + "run: a {socket:b}\n":                                            `lab.yaml:4:10: run of a: {socket:b}: there is no guest "b"`,
	} {
		_, err := parsed(t, text).Guests[0].Command(version)
		require.ErrorContains(t, err, want, text)
	}
}

func TestWhatIsWrongWithTheNetworkHasItsPlaceInTheLab(t *testing.T) {
	l, err := Parse("lab.yaml", []byte("guests:\n  - name: a\n    switch: {switch-name: lan, vlan: 4095}\n"), t.TempDir(), noGroups)
	require.NoError(t, err)
	require.ErrorContains(t, l.Check(), "lab.yaml:3:")
}

func TestExamplesAreAsTheSchemaSays(t *testing.T) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("lab.schema.json", document))
	s, err := c.Compile("lab.schema.json")
	require.NoError(t, err)
	validate := func(text []byte) error {
		var value any
		require.NoError(t, yaml.Unmarshal(text, &value))
		return s.Validate(value)
	}
	examples, err := filepath.Glob("../../docs/examples/*.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(examples), 4)
	for _, file := range examples {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, validate(text), file)
		_, err = Parse(file, text, "/run/lab", noGroups)
		require.NoError(t, err)
	}
	require.NoError(t, validate([]byte(two)))
	for _, wrong := range []string{"guests:\n  - {switch: lan}\n", "control: x\nguests:\n  - {name: a, switch: lan}\n", "guests:\n  - {name: a, switch: lan, restart: now}\n"} {
		require.Error(t, validate([]byte(wrong)), wrong)
	}
}
