package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/porttest"
)

// recordGvproxy is the path of a gvproxy whose answers are to be recorded, instead of comparing ours with them:
//
//	go test ./cmd/vring -run GvproxyAnswers -record-gvproxy ~/.cache/vring/forky/usr/bin/gvproxy
var recordGvproxy = flag.String("record-gvproxy", "", "record the answers of this gvproxy")

// gvproxyAnswers has the answers of gvproxy 0.8.1.
const gvproxyAnswers = "testdata/gvproxy.json"

// call is a request of gvproxy's API. $1 to $9 in it stand for free ports, and $D for a directory.
type call struct{ Method, Path, Body string }

// gvproxyCalls are made one after the other of one gvproxy.
func gvproxyCalls() []call {
	const forwarder, zones = "/services/forwarder/", "/services/dns/"
	expose := func(local, more string) call {
		return call{"POST", forwarder + "expose", `{"local":"` + local + `","remote":` + more + `}`}
	}
	unexpose := func(local, more string) call {
		return call{"POST", forwarder + "unexpose", `{"local":"` + local + `"` + more + `}`}
	}
	all := call{"GET", forwarder + "all", ""}
	return []call{
		all, {"POST", forwarder + "all", "x"}, {"GET", "/leases", ""}, {"GET", "/services/dhcp/leases", ""}, {"GET", "/cam", ""},
		{"GET", "/", ""}, {"GET", "/nothing", ""}, {"GET", "/services/", ""}, {"GET", "/services/forwarder", ""}, {"GET", "/services/dns", ""},
		{"GET", forwarder + "expose", ""}, {"PUT", forwarder + "expose", "{}"}, {"POST", forwarder + "expose", "x"}, {"POST", forwarder + "expose", ""},
		{"POST", forwarder + "expose", "{}"}, {"POST", forwarder + "expose", `{"local":1}`}, {"POST", forwarder + "expose", `{"unknown":1}`},
		expose(":$1", `"192.168.127.2:80"`), expose(":$1", `"192.168.127.2:80"`), expose("0.0.0.0:$1", `"192.168.127.2:80"`),
		expose("127.0.0.1:$2", `"192.168.127.2:81","protocol":"tcp"`), expose("127.0.0.1:$2", `"192.168.127.2:81","protocol":"udp"`),
		expose("localhost:$3", `"192.168.127.2:82"`), expose("[::1]:$4", `"192.168.127.2:83"`), expose("0.0.0.0:$5", `"192.168.127.2:84"`), all,
		expose("127.0.0.1:$6", `"192.168.127.2"`), expose("127.0.0.1:$6", `":80"`),
		expose("127.0.0.1:$6", `"192.168.127.2:x"`), expose("127.0.0.1:$6", `"192.168.127.2:80","protocol":"sctp"`),
		expose("$6", `"192.168.127.2:80"`), expose("127.0.0.1", `"192.168.127.2:80"`), expose("127.0.0.1:99999", `"192.168.127.2:80"`),
		expose("192.0.2.1:$6", `"192.168.127.2:80"`), expose("192.0.2.1:$6", `"192.168.127.2:80","protocol":"udp"`),
		expose("127.0.0.1:$6", `"198.51.100.9:80"`), expose("127.0.0.1:$7", `"192.168.127.77:80"`), all,
		expose("$D/a", `"tcp://192.168.127.2:80","protocol":"unix"`), expose("$D/b", `"http://192.168.127.2:80","protocol":"unix"`),
		expose("$D/b", `"ssh-tunnel://u@192.168.127.2:22/x","protocol":"unix"`), expose("$D/b", `"ssh-tunnel://u@192.168.127.2:22?key=k","protocol":"unix"`),
		expose("$D/b", `"ssh-tunnel://u@192.168.127.2:22/run/p.sock?key=k","protocol":"unix"`), expose("$D/no/b", `"tcp://192.168.127.2:80","protocol":"unix"`),
		expose("$D/b", `"%","protocol":"unix"`), expose("$D/b", `"tcp://192.168.127.2","protocol":"unix"`), all,
		{"GET", forwarder + "unexpose", ""}, {"POST", forwarder + "unexpose", "x"}, {"POST", forwarder + "unexpose", "{}"},
		unexpose(":$1", `,"protocol":"udp"`), unexpose(":$1", ""), unexpose(":$1", ""), unexpose("127.0.0.1:$2", ""), unexpose("127.0.0.1:$2", `,"protocol":"udp"`),
		unexpose("$D/a", ""), unexpose("$D/a", `,"protocol":"unix"`), unexpose("127.0.0.1:$6", ""), unexpose("127.0.0.1:$9", ""), all,
		expose(":$1", `"192.168.127.2:85"`), all,
		{"GET", zones + "all", ""}, {"GET", zones + "add", ""}, {"POST", zones + "add", "x"},
		{"POST", zones + "add", `{"Name":"test.internal.","Records":[{"Name":"a","IP":"192.168.127.1"}]}`},
		{"POST", zones + "add", `{"Name":"test.internal.","Records":[{"Name":"b","IP":"192.168.127.5"},{"Regexp":"^c.*","IP":"192.168.127.6"}],"DefaultIP":"192.168.127.9"}`},
		{"POST", zones + "add", `{"Name":"other"}`}, {"POST", zones + "add", `{"Name":"a.","Records":[{"IP":"x"}]}`}, {"POST", zones + "add", `{"Name":"a.","Records":[{"Regexp":"("}]}`},
		{"GET", zones + "all", ""},
		{"GET", "/tunnel", ""}, {"GET", "/tunnel?ip=192.168.127.2", ""}, {"GET", "/tunnel?ip=192.168.127.2&port=x", ""},
		expose("127.0.0.1:$9", `"192.168.127.2:99999"`),
	}
}

// answered is what a client sees of an answer.
type answered struct {
	Call    call
	Status  int
	Type    string
	NoSniff string
	Body    string
}

// placeholders are what stands for what in calls and answers of one run.
type placeholders struct{ fill, hide *strings.Replacer }

// portFreeEverywhere is a port that nobody has at any address of the host, where FreePort looks at one only.
func portFreeEverywhere(t *testing.T) string {
	for {
		port := portOf(porttest.FreePort(t).String())
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			continue
		}
		require.NoError(t, l.Close())
		return port
	}
}

func newPlaceholders(t *testing.T, sshPort string) placeholders {
	dir := shortDir(t)
	from, back := []string{"$D", dir, "$S", sshPort}, []string{dir, "$D", sshPort, "$S"}
	for i := 1; i <= 9; i++ {
		name, port := "$"+strconv.Itoa(i), portFreeEverywhere(t)
		from, back = append(from, name, port), append(back, port, name)
	}
	return placeholders{strings.NewReplacer(from...), strings.NewReplacer(back...)}
}

// startGvproxy starts a gvproxy with a socket for its API and one for its guest, and returns a client of its API when it answers, and where its
// files are.
func startGvproxy(t *testing.T, cmd func(args ...string) *exec.Cmd, sshPort string, more ...string) (client *http.Client, dir string) {
	dir = shortDir(t)
	api := filepath.Join(dir, "api")
	run := cmd(append([]string{"-listen", "unix://" + api, "-listen-qemu", "unix://" + filepath.Join(dir, "qemu"), "-ssh-port", sshPort}, more...)...)
	out := new(strings.Builder)
	run.Stdout, run.Stderr = out, out
	require.NoError(t, run.Start())
	t.Cleanup(func() {
		_ = run.Process.Signal(unix.SIGTERM)
		err := run.Wait()
		if t.Failed() {
			t.Log(err, out.String())
		}
	})
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", api)
	}}
	client = &http.Client{Transport: transport, Timeout: time.Minute}
	require.Eventually(t, func() bool {
		answer, err := client.Get("http://x/services/forwarder/all")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return true
	}, time.Minute, 10*time.Millisecond, "it does not answer")
	return client, dir
}

// asked makes calls, and returns what was answered with placeholders.
func asked(t *testing.T, client *http.Client, calls []call, p placeholders) (all []answered) {
	for _, c := range calls {
		r, err := http.NewRequestWithContext(t.Context(), c.Method, "http://x"+p.fill.Replace(c.Path), strings.NewReader(p.fill.Replace(c.Body)))
		require.NoError(t, err)
		answer, err := client.Do(r)
		require.NoError(t, err, c)
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		_ = answer.Body.Close()
		text := p.hide.Replace(string(body))
		if strings.HasSuffix(c.Path, "/forwarder/all") {
			text = inOrder(t, body, p)
		}
		all = append(all, answered{c, answer.StatusCode, answer.Header.Get("Content-Type"), answer.Header.Get("X-Content-Type-Options"), text})
	}
	return all
}

// inOrder is a list of forwards with placeholders, in an order that does not depend on which ports were free. It was sorted.
func inOrder(t *testing.T, body []byte, p placeholders) string {
	var list []json.RawMessage
	require.NoError(t, json.Unmarshal(body, &list))
	var last string
	var texts []string
	for _, item := range list {
		var f struct{ Local, Protocol string }
		require.NoError(t, json.Unmarshal(item, &f))
		require.LessOrEqual(t, last, f.Local+"\x00"+f.Protocol, "sorted by local, then protocol")
		last = f.Local + "\x00" + f.Protocol
		texts = append(texts, p.hide.Replace(string(item)))
	}
	slices.Sort(texts)
	end := strings.TrimLeft(string(body), "[")
	return "[" + strings.Join(texts, ",") + "]" + end[len(end)-1:]
}

// asGvproxyProgram is "vring gvproxy". It outlives the test's context, so that it can end by itself.
func asGvproxyProgram(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], append([]string{gvproxyCommand}, args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// otherwise are bodies of calls whose answers differ from gvproxy's, with what ours has, and why.
var otherwise = map[string]string{
	`{"local":"127.0.0.1:$9","remote":"192.168.127.2:99999"}`: "value out of range", // gvproxy 0.8 takes the port modulo 65536
}

func TestGvproxyAnswersAreThoseOfGvproxy(t *testing.T) {
	sshPort := portOf(porttest.FreePort(t).String())
	p := newPlaceholders(t, sshPort)
	if *recordGvproxy != "" {
		client, _ := startGvproxy(t, func(args ...string) *exec.Cmd { return exec.Command(*recordGvproxy, args...) }, sshPort)
		text, err := json.MarshalIndent(asked(t, client, gvproxyCalls(), p), "", "\t")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(gvproxyAnswers, append(text, '\n'), 0o644))
		return
	}
	text, err := os.ReadFile(gvproxyAnswers)
	require.NoError(t, err)
	var want []answered
	require.NoError(t, json.Unmarshal(text, &want))
	client, _ := startGvproxy(t, asGvproxyProgram, sshPort)
	got := asked(t, client, gvproxyCalls(), p)
	require.Len(t, got, len(want), "record them again")
	for i := range want {
		if ours, differs := otherwise[want[i].Call.Body]; differs {
			assert.NotContains(t, want[i].Body, ours, "it is the same by now")
			assert.Contains(t, got[i].Body, ours)
			continue
		}
		assert.Equal(t, want[i], got[i])
	}
}

func TestGvproxyStartsAndStopsAsPodmanExpects(t *testing.T) {
	sshPort := portOf(porttest.FreePort(t).String())
	files := shortDir(t)
	file := func(name string) string { return filepath.Join(files, name) }
	var run *exec.Cmd
	_, dir := startGvproxy(t, func(args ...string) *exec.Cmd {
		run = asGvproxyProgram(args...)
		return run
	}, sshPort, "-mtu", "1500", "-forward-sock", file("podman"), "-forward-dest", "/run/podman.sock", "-forward-user", "core", "-forward-identity", file("key"),
		"-pid-file", file("pid"), "-log-file", file("log"))
	require.FileExists(t, filepath.Join(dir, "qemu"))
	pid, err := os.ReadFile(file("pid"))
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(run.Process.Pid), string(pid))
	require.FileExists(t, file("podman"))
	client, err := net.Dial("unix", file("podman"))
	require.NoError(t, err)
	require.NoError(t, client.SetDeadline(time.Now().Add(time.Minute)))
	_, err = client.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "there is no key, and no guest")
	_, err = net.Listen("tcp", "127.0.0.1:"+sshPort)
	require.ErrorIs(t, err, unix.EADDRINUSE, "vring listens there")

	require.NoError(t, run.Process.Signal(unix.SIGTERM))
	state, err := run.Process.Wait()
	require.NoError(t, err)
	require.True(t, state.Success(), state)
	require.NoFileExists(t, file("pid"))
	require.NoFileExists(t, file("podman"))
	log, err := os.ReadFile(file("log"))
	require.NoError(t, err)
	require.Contains(t, string(log), "-guest-api gives it")
}

// queryFrame is a query to the name server as a guest sends it, behind the length of its frame.
func queryFrame(mac, query []byte) []byte {
	udp := binary.BigEndian.AppendUint16([]byte{4, 0, 0, 53}, uint16(8+len(query)))
	udp = append(append(udp, 0, 0), query...) // without a checksum
	ip := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 192, 168, 127, 2, 192, 168, 127, 1}
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(udp)))
	sum := uint32(0)
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum&0xffff+sum>>16))
	frame := slices.Concat([]byte{0x5a, 0x94, 0xef, 0xe4, 0x0c, 0xdd}, mac, []byte{8, 0}, ip, udp)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)
}

func TestGvproxyAnswersItsGuestAndEndsWithIt(t *testing.T) {
	var run *exec.Cmd
	client, dir := startGvproxy(t, func(args ...string) *exec.Cmd {
		run = asGvproxyProgram(args...)
		return run
	}, portOf(porttest.FreePort(t).String()))
	guest, err := net.Dial("unix", filepath.Join(dir, "qemu"))
	require.NoError(t, err)
	require.NoError(t, guest.SetDeadline(time.Now().Add(time.Minute)))
	mac := []byte{0x5a, 0x94, 0xef, 0xe4, 0x0c, 0xee}
	question := slices.Concat([]byte{0, 0, 0, 42, 255, 255, 255, 255, 255, 255}, mac, []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1}, mac,
		[]byte{192, 168, 127, 2}, make([]byte, 6), []byte{192, 168, 127, 1})
	_, err = guest.Write(question)
	require.NoError(t, err)
	next := func() []byte {
		length := make([]byte, 4)
		_, err := io.ReadFull(guest, length)
		require.NoError(t, err, "it is answered")
		frame := make([]byte, binary.BigEndian.Uint32(length))
		_, err = io.ReadFull(guest, frame)
		require.NoError(t, err)
		return frame
	}
	require.Equal(t, []byte{0x5a, 0x94, 0xef, 0xe4, 0x0c, 0xdd}, next()[22:28], "the gateway's address is gvproxy's")
	posted, err := client.Post("http://x/services/dns/add", "", strings.NewReader(`{"Name":"test.internal.","Records":[{"Name":"a","IP":"192.0.2.77"}]}`))
	require.NoError(t, err)
	require.NoError(t, posted.Body.Close())
	query, err := new(dns.Msg).SetQuestion("a.test.internal.", dns.TypeA).Pack()
	require.NoError(t, err)
	_, err = guest.Write(queryFrame(mac, query))
	require.NoError(t, err)
	for !bytes.HasSuffix(next(), []byte{192, 0, 2, 77}) { // what else the guest is sent comes before
	}
	require.NoError(t, guest.Close())
	state, err := run.Process.Wait()
	require.NoError(t, err)
	require.True(t, state.Success(), state)
}

// The guest's end is left out here: a redirect leads it to the port, as tests of redirects show.
func TestTheGuestHasTheAPIOfGvproxyWhereItIsWanted(t *testing.T) {
	log := filepath.Join(shortDir(t), "log")
	port := portOf(porttest.FreePort(t).String())
	client, _ := startGvproxy(t, asGvproxyProgram, portOf(porttest.FreePort(t).String()), "-guest-api", "-debug", "-log-file", log)
	var api []string
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(log)
		api = regexp.MustCompile(`--redirect tcp:192\.168\.127\.1:80=(127\.0\.0\.1:[0-9]+)`).FindStringSubmatch(string(text))
		return err == nil && api != nil
	}, time.Minute, 10*time.Millisecond)
	answer, err := http.Post("http://"+api[1]+"/services/forwarder/expose", "application/json", strings.NewReader(`{"local":"127.0.0.1:`+port+`","remote":":80"}`))
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
	answer, err = client.Get("http://x/services/forwarder/all")
	require.NoError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), `{"local":"127.0.0.1:`+port+`","remote":"192.168.127.2:80","protocol":"tcp"}`, "a remote end without an address is the guest")
}
