package configfile

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/daemon"
)

// guestsOf is a file that is right, with other lines at its end.
func guestsOf(lines string) string { return "guests:\n  - socket-path: /tmp/vm0.sock\n" + lines }

// parse returns the first line of each fault.
func parse(text string) (faults []string) {
	_, err := Parse("f", []byte(text), noGroups)
	for _, fault := range Flatten(err) {
		faults = append(faults, fault.Error())
	}
	return faults
}

func TestWhatIsWrongWithAFileIsToldWithItsPlace(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"empty":              {"", []string{"f: want one of nat:, tap:, switch: and stub:"}},
		"comments only":      {"# a\n", []string{"f: want one of nat:"}},
		"null":               {"null\n", []string{"f: want one of nat:"}},
		"a text":             {"vring", []string{`f:1:1: the file: want keys with values, as in "guests: ..."`}},
		"a list":             {"- a\n", []string{"f:1:1: the file: want keys"}},
		"no guests":          {"nat:\n", []string{"f: want guests:"}},
		"no guest":           {"guests: []\nnat:\n", []string{"f:1:1: guests: want one guest at least"}},
		"no network":         {guestsOf(""), []string{"f: want one of nat:, tap:, switch: and stub:"}},
		"two networks":       {guestsOf("nat:\nstub:\n"), []string{"f:4:1: guests share one of nat, tap, switch and stub, or nat and switch, not 2 of them"}},
		"not YAML":           {guestsOf("nat: [\n"), []string{"f:3:6: sequence end token ']' not found"}},
		"a tab":              {"guests:\n\t- fd: 3\nstub:\n", []string{"f:2:1: found character '\t'"}},
		"unknown key":        {guestsOf("stub:\nlog-lvel: info\n"), []string{`f:4:1: the file has no key "log-lvel"; did you mean log-level?`}},
		"key of a network":   {guestsOf("mtu: 1500\nnat:\n"), []string{`f:3:1: the file has no key "mtu"; mtu belongs below nat:`}},
		"key of a guest":     {"socket-path: /a\nnat:\n", []string{`f:1:1: the file has no key "socket-path"; socket-path belongs below guests:`}},
		"option of a rule":   {guestsOf("nat:\n  deny: 192.0.2.1\n"), []string{`f:4:3: nat has no key "deny"; its name is rules`}},
		"unlike any":         {guestsOf("stub:\n  gatewayaddress: 1\n"), []string{`f:4:3: stub has no key "gatewayaddress"; keys are mode, rate, size`}},
		"twice":              {guestsOf("stub:\n  rate: 1\n  mode: source\n  rate: 2\n"), []string{"f:6:3: rate is given twice, first in line 4"}},
		"a section twice":    {guestsOf("nat:\nnat:\n"), []string{"f:4:1: nat is given twice, first in line 3"}},
		"no name":            {guestsOf("nat:\n  [a]: 1\n"), []string{"f:4:6: found an invalid key for this map"}},
		"a number's name":    {guestsOf("nat:\n1: 1\n"), []string{"f:4:1: the file: want the name of a key"}},
		"no value":           {guestsOf("log-level:\nnat:\n"), []string{"f:3:11: log-level: the value is empty; leave the key out"}},
		"empty value":        {guestsOf("nat:\n  domain: \"\"\n"), []string{"f:4:11: domain: the value is empty"}},
		"a zero":             {guestsOf("nat:\n  domain: \"a\\0\"\n"), []string{"f:4:11: domain: the value has a character of value 0"}},
		"a list for one":     {guestsOf("nat:\n  mtu: [1500]\n"), []string{"f:4:8: mtu: want one value, not a list or a mapping"}},
		"a mapping for one":  {guestsOf("nat:\n  mtu:\n    a: 1\n"), []string{"f:5:5: mtu: want one value"}},
		"one for a list":     {guestsOf("nat:\n  forwards: 8080:80\n"), []string{`f:4:13: forwards: want a list`}},
		"a number":           {guestsOf("nat:\n  mtu: large\n"), []string{`f:4:8: mtu "large": want a whole number`}},
		"a large number":     {guestsOf("stub:\n  mode: source\n  rate: 9223372036854775808\n"), []string{`f:5:9: rate "9223372036854775808": want a whole number`}},
		"a negative number":  {guestsOf("poll-us: -1\nstub:\n"), []string{`f:3:10: poll-us "-1": want a whole number`}},
		"long polling":       {guestsOf("poll-us: 1000001\nstub:\n"), []string{`f:3:10: poll-us "1000001": want 0 to 1000000`}},
		"a truth":            {guestsOf("client: yes\nstub:\n"), []string{`f:3:9: client "yes": want true or false`}},
		"a time":             {guestsOf("nat:\n  reconnect-grace: 10\n"), []string{`f:4:20: reconnect-grace "10": want a time with its unit`}},
		"a choice":           {guestsOf("stub:\n  mode: loud\n"), []string{`f:4:9: mode "loud": want null, echo, reflect, sink or source`}},
		"a level":            {guestsOf("log-level: loud\nstub:\n"), []string{`f:3:12: log-level "loud": want debug, info, warn or error`}},
		"a format":           {guestsOf("log-format: xml\nstub:\n"), []string{`f:3:13: log-format "xml": want text or json`}},
		"a sandbox":          {guestsOf("sandbox: no\nstub:\n"), []string{`f:3:10: sandbox "no": want on, strict, log or off`}},
		"a mode":             {guestsOf("socket-mode: rw\nstub:\n"), []string{`f:3:14: socket-mode "rw": want octal permissions`}},
		"a group":            {guestsOf("socket-group: none\nstub:\n"), []string{`f:3:15: there is no such group`}},
		"processors":         {guestsOf("cpus: 1-\nstub:\n"), []string{`f:3:7: cpus "1-": want numbers of processors`}},
		"a network":          {guestsOf("nat:\n  network: 10.0.2.0\n"), []string{`f:4:12: network "10.0.2.0": want an address and a length; write network 10.0.2.0/24`}},
		"a network of IPv6":  {guestsOf("nat:\n  network6: none\n"), []string{`f:4:13: network6 "none": want an address and a length, as in fd00:10:0:2::/64, or off`}},
		"a forward":          {guestsOf("nat:\n  forwards:\n    - 8080\n    - 1:1\n    - 5-1:1\n"), []string{`f:5:7: forward "8080"`, `f:7:7: forward "5-1:1"`}},
		"a service":          {guestsOf("nat:\n  allow-host: [\"tcp:\"]\n"), []string{`f:4:16: host service "tcp:"`}},
		"a rule's word":      {guestsOf("nat:\n  rules:\n    - open: 192.0.2.1\n"), []string{`f:5:7: rules: want allow, deny, allow-name or deny-name`}},
		"a rule of two":      {guestsOf("nat:\n  rules:\n    - allow: 192.0.2.1\n      deny: 192.0.2.2\n"), []string{`f:5:7: rules: want one of allow, deny, allow-name and deny-name`}},
		"a rule as a text":   {guestsOf("nat:\n  rules: [192.0.2.1]\n"), []string{`f:4:11: rules: want one of allow, deny, allow-name and deny-name`}},
		"a rule's text":      {guestsOf("nat:\n  rules:\n    - deny: all\n"), []string{`f:5:13: rule "all"`}},
		"a resolver":         {guestsOf("nat:\n  dns: [192.0.2.1, resolver]\n"), []string{`f:4:20: dns "resolver": want ADDRESS[:PORT]`}},
		"a filtering":        {guestsOf("nat:\n  udp-filtering: full-cone\n"), []string{`f:4:18: udp-filtering "full-cone": want address-and-port-dependent`}},
		"a lease":            {guestsOf("nat:\n  leases: [a]\n"), []string{`f:4:12: leases "a": want MAC=ADDRESS`}},
		"a server":           {guestsOf("nat:\n  boot-servers: [tftp]\n"), []string{`f:4:18: boot-servers "tftp": want an IP address`}},
		"an option of DHCP":  {guestsOf("nat:\n  dhcp-options: [a]\n"), []string{`f:4:18: dhcp-options "a"`}},
		"a VLAN":             {"guests: [{socket-path: /a, tap: t}]\ntap:\n  vlan: 0\n", []string{`f:3:9: vlan "0": want 1 to 4094`}},
		"VLANs":              {"guests: [{socket-path: /a, tap: t}]\ntap:\n  trunk: 0-5\n", []string{`f:3:10: VLANs "0-5"`}},
		"a MAC":              {"guests: [{socket-path: /a, tap: t}]\ntap:\n  mac: x\n", []string{`f:3:8: mac "x": want an Ethernet address`}},
		"a guest's text":     {"guests: [/tmp/vm0.sock]\nstub:\n", []string{`f:1:10: a guest: want keys with values`, `f:1:10: a guest has one of socket-path and fd`}},
		"no socket":          {"guests: [{}]\nstub:\n", []string{"f:1:10: a guest has one of socket-path and fd"}},
		"socket and fd":      {"guests:\n  - socket-path: /a\n    fd: 3\nstub:\n", []string{"f:2:5: a guest has one of socket-path and fd"}},
		"fds of two":         {"guests:\n  - fd: 3\n  - socket-path: /a\nstub:\n", []string{"f:2:5: fd is for one guest only; there are 2"}},
		"no device":          {guestsOf("tap:\n"), []string{"f:2:5: a guest that is connected to a TAP device has the key tap"}},
		"a device for stubs": {"guests: [{socket-path: /a, tap: t}]\nstub:\n", []string{"f:2:1: no guest shares this network"}},
		"two of its own":     {"guests: [{socket-path: /a, nat: {}, stub: {}}]\n", []string{"f:1:37: a guest is connected to one of nat, tap, switch and stub"}},
		"an fd of its own":   {"guests: [{fd: 3, stub: {}}]\n", []string{"f:1:10: a guest that has a network of its own has a socket-path", "f:1:11: fd is for a guest without"}},
		"no device of its":   {"guests: [{socket-path: /a, tap: {mtu: 1500}}]\n", []string{"f:1:28: a guest that is connected to a TAP device has its name"}},
		"a kind for sharing": {"guests: [{socket-path: /a, front-end: stream}]\nstub:\n", []string{"f:1:28: front-end of one guest is for a guest that has a network of its own"}},
		"no such kind":       {"guests: [{socket-path: /a, front-end: x, stub: {}}]\n", []string{`f:1:39: front-end "x": want vhost-user`}},
		"a name for sharing": {"guests: [{socket-path: /a, name: a}]\nstub:\n", []string{"f:1:28: name is for a guest that has a network of its own"}},
		"a key of its own":   {"guests: [{socket-path: /a, nat: {mtuu: 5}}]\n", []string{`f:1:34: nat has no key "mtuu"; did you mean mtu?`}},
		"a rate of its own":  {"guests: [{socket-path: /a, stub: {rate: 5}}]\n", []string{"f:1:35: rate needs mode: source"}},
		"nobody's network":   {"guests: [{socket-path: /a, stub: {}}, {socket-path: /b}]\n", []string{"f: want one of nat:, tap:, switch: and stub:"}},
		"a rate of nothing":  {guestsOf("stub:\n  rate: 5\n"), []string{"f:4:3: rate needs mode: source"}},
		"an anchor":          {guestsOf("nat: &a\n"), []string{"f:3:6: anchors, aliases and merges"}},
		"an alias":           {guestsOf("nat: *a\n"), []string{"f:3:6: anchors, aliases and merges"}},
		"a merge":            {guestsOf("nat:\n  <<: 1\n"), []string{"f:4:3: anchors, aliases and merges"}},
		"a tag":              {guestsOf("nat:\n  mtu: !!int 5\n"), []string{"f:4:8: tags (!) are not used here"}},
		"a directive":        {"%YAML 1.2\n---\n" + guestsOf("nat:\n"), []string{"f:1:1: directives (%) are not used here"}},
		"several lines":      {guestsOf("nat:\n  domain: |\n    a\n"), []string{"f:4:11: a value is written in one line"}},
		"a question":         {guestsOf("? nat\n"), []string{"f:3:1: keys are written as in"}},
		"two documents":      {guestsOf("stub:\n---\nnat:\n"), []string{"f:4:1: the file has more than one document"}},
		"no text":            {"\xff", []string{"f: the file is no text in UTF-8"}},
		"control characters": {"a: \x00", []string{"f: the file has control characters"}},
		"columns":            {guestsOf("nat: {domain: é, mtu: x}\n"), []string{`f:3:23: mtu "x": want a whole number`}},
		"all at once":        {"log-level: x\nguests:\nstub:\n  mode: y\n  z: 1\n", []string{"f:1:12: log-level", "f:4:9: mode", `f:5:3: stub has no key "z"`}},
	} {
		t.Run(name, func(t *testing.T) {
			faults := parse(c.text)
			require.Len(t, faults, len(c.want), "%q", faults)
			for i, want := range c.want {
				require.True(t, strings.HasPrefix(faults[i], want), "%q is not %q", faults[i], want)
				require.NotContains(t, faults[i], "\n")
			}
		})
	}
}

func TestAFileIsBounded(t *testing.T) {
	repeat := func(text string, n int) string { return strings.Repeat(text, n) }
	manyKeys := ""
	for i := range 9000 {
		manyKeys += fmt.Sprintf("k%d: 1\n", i)
	}
	for name, c := range map[string]struct{ text, want string }{
		"bytes":            {repeat("#", MaxFile+1), "f: the file is too long: want 128 KiB at most"},
		"items":            {guestsOf("nat:\n  forwards:\n" + repeat("  - 1:1\n", 9000)), "too many keys and items"},
		"items in a line":  {guestsOf("nat:\n  forwards: [" + repeat("1:1,", 9000) + "]"), "too many keys and items"},
		"keys":             {manyKeys, "too many keys and items"},
		"depth":            {repeat("[", 60000), "nested too deep"},
		"depth of mapping": {repeat("{a: ", 30000), "nested too deep"},
		"depth of dashes":  {repeat("- ", 60000), "nested too deep"},
		"depth of indent":  {repeat(" ", 70) + "a:\n" + repeat(" ", 71) + "b: 1\n", "nested too deep"},
		"closing brackets": {repeat("]", 100000), "could not find '['"},
		"services":         {guestsOf("nat:\n  allow-host: [1-65535, 1-65535, 1-65535]"), "allow-host: these are more than 131072 services"},
		"processors":       {guestsOf("stub:\ncpus: " + repeat("0-1023,", 18000) + "0"), "want 4096 processors at most"},
	} {
		t.Run(name, func(t *testing.T) {
			faults := parse(c.text)
			require.NotEmpty(t, faults)
			require.Contains(t, faults[0], c.want)
		})
	}
	most := guestsOf("nat:\n  rules:\n" + repeat("  - deny: 1.2.3.4\n", 4000))
	require.Empty(t, parse(most))
}

func TestWhatIsWrongWithTheConfigurationHasItsPlaceInTheFile(t *testing.T) {
	text := "guests:\n  - socket-path: /tmp/a\n  - socket-path: /no/such/directory\nnat:\n  mtu: 9\n  dns: [192.0.2.1, \"fe80::1%eth0\"]\n" +
		"  rules:\n    - allow: 127.0.0.1\n  boot-files: [a.kpxe]\n"
	f, err := Parse("f", []byte(text), noGroups)
	require.NoError(t, err)
	_, err = f.Config.Check()
	var got []string
	for _, fault := range Flatten(f.Locate(err)) {
		got = append(got, fault.Error())
	}
	for i, want := range []string{
		"f:3:18: socket path /no/such/directory: there is no directory", "f:5:8: mtu 9: want 576 to 65520",
		"f:8:14: rule 127.0.0.1/32", "f:6:20: dns [fe80::1%eth0]:53", "f:9:16: boot-files a.kpxe: nobody knows where that file is; add tftp DIRECTORY or boot-servers ADDRESS",
	} {
		require.Len(t, got, 5)
		require.Contains(t, strings.Join(got, "\n"), want, i)
	}
	require.EqualError(t, f.Locate(errors.New("something else")), "1 error occurred:\n\t* f: something else\n\n")
	require.NoError(t, f.Locate(nil))
}

func TestTheLineThatIsWrongIsShown(t *testing.T) {
	excerpt := func(text string) string {
		_, err := Parse("f", []byte(text), noGroups)
		fault := new(Fault)
		require.ErrorAs(t, err, &fault)
		return fault.Excerpt()
	}
	require.Equal(t, "4 |   mtu: x\r\n  |        ^", strings.ReplaceAll(excerpt("guests:\n- fd: 3\nnat:\n  mtu: x\n"), "x\n", "x\r\n"))
	require.Equal(t, "4 |   mtu: x\n  |        ^", excerpt("guests:\r\n- fd: 3\r\nnat:\r\n  mtu: x\r\n"))
	require.Empty(t, excerpt(""))
	long := excerpt("guests: [{fd: 3}]\nnat: {domain: " + strings.Repeat("é", 500) + ", mtu: x, hostname: " + strings.Repeat("a", 500) + "}\n")
	first, second, _ := strings.Cut(long, "\n")
	require.Len(t, []rune(first), len("2 | ")+maxExcerpt)
	require.Equal(t, byte('x'), []byte(string([]rune(first)[len(second)-1]))[0], "the mark is below it")
}

// A reload in the sandbox looks up no group.
func TestTheGroupIsLookedUpByWhoeverReads(t *testing.T) {
	groups := func(text string) (int, error) { return len(text), nil }
	f, err := Parse("f", []byte(guestsOf("socket-group: kvm\nstub:\n")), groups)
	require.NoError(t, err)
	require.Equal(t, 3, *f.Config.FrontEnds.SocketGroup)
}

func TestAFileWithNothingElseIsWhatTheCommandsDoWithoutFlags(t *testing.T) {
	for text, want := range map[string]daemon.Config{
		"nat:":      {NAT: defaults().NAT},
		"nat: {}":   {NAT: defaults().NAT},
		"stub: ~\n": {Stub: defaults().Stub},
	} {
		f, err := Parse("f", []byte(guestsOf(text)), noGroups)
		require.NoError(t, err)
		want.Threads.Poll, want.Log.Format, want.FrontEnds.SocketPaths = daemon.DefaultPoll, daemon.FormatText, []string{"/tmp/vm0.sock"}
		changed, _ := daemon.Compare(&want, &f.Config)
		require.Empty(t, changed)
	}
}

func FuzzParse(f *testing.F) {
	seeds := []string{"", "nat:", guestsOf("nat:\n  mtu: 9000\n  forwards: [8080:80]\n"), "- - -", "{a: [}", "a: \"\\u0041", "a: 'b\n c'", "? a", "&a *a", "a:\n\t- b", "\ufeffa: 1"}
	for _, text := range seeds {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse("f", []byte(text), noGroups)
		if err != nil {
			for _, one := range Flatten(err) {
				fault := new(Fault)
				require.ErrorAs(t, one, &fault)
				require.GreaterOrEqual(t, fault.Column, 0)
				_ = fault.Excerpt()
			}
			return
		}
		written, err := Marshal(&file.Config, Commented)
		require.NoError(t, err)
		again, err := Parse("f", written, noGroups)
		require.NoError(t, err, "%s", written)
		changed, _ := daemon.Compare(&file.Config, &again.Config)
		require.Empty(t, changed, "%s", written)
	})
}
