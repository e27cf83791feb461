package integration

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// A fieldClient is what a user types, here and there. Its folder is the working directory, and $field is the folder that host, guest and
// world share.
type fieldClient struct {
	name   string
	script string
	want   []string            // what it must print, beside the same in the guest as on the host
	differ []*regexp.Regexp    // what may differ: times above all
	reduce func(string) string // instead of differ, if the output is not for comparison as it is
	during func(f *field)      // happens while the script runs on the host and in the guest at once; nil is one after the other
}

// fieldClients are the clients of the field.
func fieldClients() []fieldClient {
	big, small := sumOf(hostSeed, fieldBytes()), sumOf(guestSeed, smallBytes)
	return []fieldClient{
		{name: "curl", script: `
curl --version | head -1
cd $field/files
curl -sS http://www.field.example/big | sha256sum
curl -sS -k --http2 https://www.field.example/big | sha256sum
curl -sS -T big http://www/sum
curl -sS -k --http2 --data-binary @small https://www/sum
curl -sS -g "http://[2001:db8:7::2]/small" | sha256sum
curl -sS -r 1000-2999 http://198.18.7.2/small | sha256sum
curl -sS --no-progress-meter -Z -w '%{http_code} %{size_download}\n' "http://198.18.7.2/many/[150-199]" -o "$work/#1" | sort
cat $work/1?? | sha256sum
curl -sS -k -o $work/h2 -w '%{http_code} %{http_version} %{size_download} %{remote_ip} %{remote_port}\n' -4 https://www/small
curl -sS http://198.18.7.2:9/; echo "refused: $?"
curl -sS http://nobody.field.example/; echo "no such name: $?"
`, want: []string{"curl 8", big, posted("PUT", hostSeed, fieldBytes()), posted("POST", guestSeed, smallBytes), small, "200 2 1048653 198.18.7.2 443",
			"refused: 7", "no such name: 6"},
			differ: []*regexp.Regexp{regexp.MustCompile(`after \d+ ms`)}},
		{name: "ssh", script: `
ssh -V
ssh="ssh -F $field/ssh-config field"
cd $field/files
$ssh "sha256sum; exit 7" < big; echo "exit $?"
# Through a pipe it would take User-mode Linux ten times as long.
$ssh "cat $field/files/big; kill -TERM \$\$" >$work/big; sha256sum <$work/big; rm $work/big
scp -q -r -F $field/ssh-config field:$field/files/many field:$field/files/small $work/ && cat $work/many/* $work/small | sha256sum
scp -q -F $field/ssh-config small field:$field/put && sha256sum < $field/put && rm $field/put
echo "ls -1 $field/files/many" | sftp -q -b - -F $field/ssh-config field | sed 1d | wc -l
`, want: []string{"OpenSSH_", big + "exit 7\n" + big, small, "\n200\n"}},
		{name: "dig", script: `
dig -v
for option in +noedns +bufsize=4096 +bufsize=1232 +ignore +tcp; do
	for server in @198.18.7.2 ""; do
		echo "dig $option"; dig $option $server text.field.example TXT
	done
done
dig www.field.example A www.field.example AAAA nobody.field.example A -x 198.18.7.2
dig +search +short www
`, want: []string{"MSG SIZE  rcvd: 4", "status: NXDOMAIN", "status: NOERROR", "Truncated, retrying in TCP mode", "\n198.18.7.2\n"},
			differ: []*regexp.Regexp{regexp.MustCompile(`id: \d+`), regexp.MustCompile(`Query time: .*`), regexp.MustCompile(`WHEN: .*`),
				regexp.MustCompile(`SERVER: .*`)}},
		{name: "tftp", script: `
tftp -V
cd $work
tftp -m binary 198.18.7.2 -c get small
sha256sum < small
tftp -m binary 198.18.7.2 -c get nothing; echo "status $?"
`, want: []string{"tftp-hpa", small, "status 76"}},
		{name: "rsync", script: `
rsync --version | head -1
cd $work
rsync -a rsync://198.18.7.2/files/ $work/got/
(cd $work/got && find . -type f | sort | xargs sha256sum) | sha256sum
sha256sum < $work/got/big
rsync -a --stats rsync://www.field.example/files/ $work/got/ | grep "files transferred"
rsync -a --delete $work/got/many/ "rsync://[2001:db8:7::2]/here/" && rsync -a "rsync://[2001:db8:7::2]/here/" $work/back/ && diff -r $work/got/many $work/back && echo same
rm -rf $work/got
`, want: []string{"rsync  version 3", big, "Number of regular files transferred: 0", "same\n"}},
		{name: "ftp", script: `
cd $work
ftp -p -V -o one ftp://198.18.7.2/small; sha256sum < one
ftp -p -V -o two "ftp://www.field.example/big"; sha256sum < two; rm two
printf 'passive\nbinary\ncd many\nls\nmget 15?\nquit\n' | ftp -p -i -a -n -V 198.18.7.2 >/dev/null; echo "status $?"
curl -sS --disable-epsv ftp://198.18.7.2/small | sha256sum
curl -sS -g "ftp://[2001:db8:7::2]/small" | sha256sum
curl -sS -l ftp://198.18.7.2/many/ | sort | sha256sum
`, want: []string{small + big, small + small}},
		{name: "busybox", script: `
busybox | head -1
cd $work
busybox wget -q -O - http://www.field.example/big | sha256sum
busybox tftp -g -r small 198.18.7.2 2>/dev/null; sha256sum < small
busybox tftp -b 1400 -g -r small -l blocks 198.18.7.2 2>/dev/null; sha256sum < blocks
printf 'GET /small HTTP/1.0\r\n\r\n' | busybox nc 198.18.7.2 80 | sed '1,/^.$/d' | sha256sum
timeout 60 busybox nc 198.18.7.2 7000 < small
busybox nslookup www.field.example | grep -A1 ^Name | sort
busybox ping -c 3 -s 3000 198.18.7.2 | grep -c "^3008 bytes from 198.18.7.2"
busybox ping -6 -c 1 -W 20 2001:db8:7::2 | grep packets
`, want: []string{"BusyBox v1", big, small + small + small + small, "Address: 198.18.7.2", "3\n", "1 packets transmitted, 1 packets received, 0% packet loss"}},
		{name: "iperf3", script: `
iperf3 --version | head -1
for option in "" -R "-P 4" -6 -u; do
	to=198.18.7.2; [ "$option" != -6 ] || to=2001:db8:7::2
	test="-n 8M $option -c $to"
	[ "$option" != -u ] || test="-u -b 4M -l 1400 -n 512K -c $to"
	# Between two clients the server does not listen for a moment.
	iperf3 -J $test >$work/out || { sleep 1; iperf3 -J $test >$work/out; }
	cat $work/out
done
`, want: []string{`"protocol":	"UDP"`, `"sum_received"`}, reduce: iperfTotals},
		{name: "avahi", script: startAvahi + `
avahi-browse -r -p _ipp._tcp >$work/found & browse=$! # with -t it ends before a busy machine has answered
found() { grep -m1 "^=;.*;IPv4;.*\"\$" $work/found | cut -d";" -f4-; }
until [ "$(found)" ] || [ $(date +%s) -ge $end ]; do sleep 0.1; done
kill $browse
found
avahi-resolve -4 -n printer.local
avahi-resolve -a 198.18.7.2
kill $avahi $bus; wait
`, want: []string{"avahi-browse 0", "Field\\032Printer;Internet Printer;local;printer.local;198.18.7.2;631;\"rp=queue\"", "printer.local\t198.18.7.2",
			"198.18.7.2\tprinter.local"}},
	}
}

// startAvahi starts mDNS software for clients, on a machine whose name in the local domain is given as $name.
const startAvahi = `
avahi-browse --version
end=$(($(date +%s) + 60))
mkdir -p /run/dbus
dbus-daemon --system --nofork --nopidfile >/run/dbus.log 2>&1 & bus=$!
until [ -S /run/dbus/system_bus_socket ] || [ $(date +%s) -ge $end ]; do sleep 0.1; done
printf "[server]\nhost-name=${name:-client}\n" >/run/avahi.conf
avahi-daemon --no-drop-root --no-rlimits -f /run/avahi.conf >/run/avahi.log 2>&1 & avahi=$!
until avahi-daemon --check || [ $(date +%s) -ge $end ]; do sleep 0.1; done
`

// posted is what the world's web server answers to who sends test data to it.
func posted(method string, seed uint64, n int64) string {
	return fmt.Sprintf("%s %d <nil> %s\n", method, n, proto.PatternSum(seed, n))
}

// Clients of the field print in a guest what they print on the host itself: what they get and send are the same bytes, and what goes
// wrong goes wrong alike.
func TestClientsInAGuestDoWhatTheyDoOnTheHost(t *testing.T) {
	t.Parallel()
	f := newField(t)
	f.writeFiles()
	f.serveWeb()
	f.serveSums()
	f.serveNames()
	f.serveFiles()
	f.serve("iperf3", "-s")
	f.servePrinter()
	f.start("--udp-filtering", "address-dependent", // a TFTP server answers from another port
		"--multicast", fieldWire)
	f.configure()
	for _, c := range fieldClients() {
		t.Run(c.name, func(t *testing.T) { f.compare(t, c) })
	}
}

// compare runs a client on the host and in the guest.
func (f *field) compare(t *testing.T, c fieldClient) {
	path := f.write(c.name+".sh", "field="+f.dir+" work=$1\nmkdir -p $work\nexec 2>&1\n"+c.script)
	begin := time.Now()
	host, guest := c.run(f, path)
	first, _, _ := strings.Cut(host.Output, "\n")
	t.Logf("%v on host and guest: %s", time.Since(begin), first)
	for _, want := range c.want {
		require.Contains(t, host.Output, want, "on the host")
	}
	require.NotContains(t, c.comparable(host), "complete false")
	require.Equal(t, c.comparable(host), c.comparable(guest))
}

// run runs the script on the host and in the guest.
func (c fieldClient) run(f *field, path string) (host, guest proto.Outcome) {
	wait := f.startOnHost(path, filepath.Join(f.folder("on-host"), c.name))
	if c.during == nil {
		host = wait()
		return host, f.inGuest(path, f.working(c.name))
	}
	waitGuest := f.startInGuest(path, f.working(c.name))
	c.during(f)
	return wait(), waitGuest()
}

// iperfTotals says of each result of iperf3 whether it has sent enough, and all of that was received. Speeds are no subject. Of datagrams
// a quarter is enough: a machine that is busy loses some without vring, too.
func iperfTotals(text string) string {
	type sum struct {
		Bytes int64 `json:"bytes"`
	}
	var reduced strings.Builder
	_, documents, _ := strings.Cut(text, "\n")
	for decoder := json.NewDecoder(strings.NewReader(documents)); ; {
		var result struct {
			Error string `json:"error"`
			Start struct {
				Test struct {
					Protocol string `json:"protocol"`
					Bytes    int64  `json:"bytes"`
				} `json:"test_start"`
			} `json:"start"`
			End struct {
				Sent     sum `json:"sum_sent"`
				Received sum `json:"sum_received"`
			} `json:"end"`
		}
		if err := decoder.Decode(&result); err != nil {
			fmt.Fprintf(&reduced, "%v\n", err) // io.EOF
			return reduced.String()
		}
		test, sent, received := result.Start.Test, result.End.Sent.Bytes, result.End.Received.Bytes
		enough := received == sent
		if test.Protocol == "UDP" {
			enough = received > sent/4
		}
		fmt.Fprintf(&reduced, "%s of %d: error %q, complete %t\n", test.Protocol, test.Bytes, result.Error, enough && sent >= test.Bytes)
	}
}

// working names the working directory of a client in the guest. It is in the guest's memory unless that is too small.
func (f *field) working(name string) string {
	if enduring() {
		return filepath.Join(f.folder("in-guest"), name)
	}
	return filepath.Join("/tmp", name)
}

// comparable returns what of an outcome must be the same on host and guest.
func (c fieldClient) comparable(o proto.Outcome) string {
	text := o.Output
	for _, differ := range c.differ {
		text = differ.ReplaceAllString(text, "...")
	}
	if c.reduce != nil {
		text = c.reduce(text)
	}
	return fmt.Sprintf("%s\nexit status %d", strings.TrimSpace(text), o.Status)
}
