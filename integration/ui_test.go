package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/userland"
)

// screenshots is the variable of the environment that names a folder to which pictures of the page are written.
const screenshots = "VRING_SCREENSHOTS"

// browser is the page of vring ui in Chromium.
type browser struct {
	t   *testing.T
	ctx context.Context
}

// browse opens the page of d.
func browse(t *testing.T, d *daemon) *browser {
	ctx := limited(t)
	ui := exec.Command(built.vring, "ui", "--control", d.Socket+".ctl") // which the end of the test's context does not kill: it is to end well
	out, err := ui.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, ui.Start())
	t.Cleanup(func() {
		require.NoError(t, ui.Process.Signal(syscall.SIGINT))
		require.NoError(t, ui.Wait())
	})
	url, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, // it needs another user than root
		chromedp.WindowSize(1200, 1500), chromedp.WSURLReadTimeout(soon), chromedp.UserDataDir(t.TempDir()))
	chromium, quit := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(quit)
	page, leave := chromedp.NewContext(chromium)
	t.Cleanup(leave)
	b := &browser{t, page}
	b.do(chromedp.Navigate(strings.TrimSpace(url)))
	return b
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	_, err := chromedp.Run(b.ctx, chromedp.Steps(steps...))
	require.NoError(b.t, err)
}

// tells returns what an expression in the page is.
func (b *browser) tells(expression string) string {
	b.t.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("String("+expression+")"))
	require.NoError(b.t, err)
	return text
}

// eventually waits until an expression in the page is true.
func (b *browser) eventually(expression string) {
	b.t.Helper()
	if !assertEventually(func() bool { return b.tells(expression) == "true" }) {
		require.Fail(b.t, "it does not become true: "+expression, b.tells("document.body.innerText"))
	}
}

// shows waits until an element of the page has a text.
func (b *browser) shows(selector, text string) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("(document.querySelector(%q)?.textContent || '').includes(%q)", selector, text))
}

// press presses the button whose label for screen readers begins with a text.
func (b *browser) press(label string) {
	b.t.Helper()
	button := fmt.Sprintf("document.querySelector('[aria-label^=%q]')", label)
	b.eventually(button + " !== null")
	at := b.tells("(" + button + ".scrollIntoView({block: 'center'}), JSON.stringify(" + button + ".getBoundingClientRect()))")
	var box struct{ X, Y, Width, Height float64 }
	require.NoError(b.t, json.Unmarshal([]byte(at), &box))
	b.do(chromedp.MouseClickXY(box.X+box.Width/2, box.Y+box.Height/2))
}

// theme chooses colours.
func (b *browser) theme(name string) {
	b.t.Helper()
	b.do(chromedp.SetValue("#theme", name), chromedp.Evaluate[chromedp.Void]("byId('theme').dispatchEvent(new Event('change'))"))
}

// picture writes a picture of the page, if there is to be one.
func (b *browser) picture(name string) {
	b.t.Helper()
	dir := os.Getenv(screenshots)
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	require.NoError(b.t, err)
	require.NoError(b.t, os.WriteFile(filepath.Join(dir, name), png, 0o644))
}

// requireCapture downloads a capture of the guest, whose connection to guestTCPPort is busy.
func (b *browser) requireCapture() {
	b.t.Helper()
	dir := b.t.TempDir()
	_, err := chromedp.Call(b.ctx, cdpbrowser.SetDownloadBehavior, cdpbrowser.SetDownloadBehaviorParams{
		Behavior: cdpbrowser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir,
	})
	require.NoError(b.t, err)
	b.do(chromedp.SetValue("#filter", fmt.Sprint("tcp port ", guestTCPPort)), chromedp.SetValue("#duration", "200ms"),
		chromedp.Click("#capture-form button"))
	file := filepath.Join(dir, "10.0.2.15.pcapng")
	var text []byte
	require.Eventually(b.t, func() bool { // the browser makes an empty file of that name before it has the download
		text, err = exec.Command("tcpdump", "-n", "-r", file).Output()
		return err == nil
	}, soon, 10*time.Millisecond, "tcpdump reads the capture")
	require.Contains(b.t, string(text), fmt.Sprintf("10.0.2.15.%d > 10.0.2.2.", guestTCPPort))
}

// A user adds a forward on the web page, uses it, sees the connection, ends it, and removes the forward.
func TestAGuestIsServedByWayOfTheWebPage(t *testing.T) {
	t.Parallel()
	l := newLab(t, onUML(userland.Forky))
	b := browse(t, l.vring)
	b.shows("#picture", "10.0.2.15")
	b.shows("#picture", "up")
	b.shows("#process", "in its sandbox")

	port := freePort(t)
	forward := fmt.Sprintf("%d:%d", port, guestTCPPort)
	b.do(chromedp.SendKeys("#forward", forward+"\r"))
	b.shows("#forward-form .told", "changed")
	b.shows("#forwards", strconv.Itoa(port))
	b.shows("#events", strconv.Itoa(port))
	l.transferBy("tcp4", local(port))

	const endless = 1 << 40
	_, conn := l.connectBy("tcp4", local(port), endless)
	defer conn.Close()
	go func() { exchange(conn, endless) }()
	b.shows("#flows", fmt.Sprint(":", guestTCPPort))
	b.eventually("/[1-9].*bit/.test(document.querySelector('#flows .number').textContent)")
	b.theme("light")
	light := b.tells("getComputedStyle(document.body).backgroundColor")
	b.picture("ui-light.png")
	b.theme("dark")
	require.NotEqual(t, light, b.tells("getComputedStyle(document.body).backgroundColor"))
	b.picture("ui-dark.png")
	b.requireCapture()
	b.press("End the flow of 10.0.2.15:")
	b.eventually("document.querySelector('#flows').children.length === 0")

	b.press("Remove the forward tcp:127.0.0.1:" + strconv.Itoa(port))
	b.eventually(fmt.Sprintf("!document.querySelector('#forwards').textContent.includes('%d')", port))
	_, err := net.Dial("tcp4", local(port))
	require.ErrorIs(t, err, syscall.ECONNREFUSED)

	b.do(chromedp.SetValue("#rules", "deny 192.0.2.0/24\npermit x"), chromedp.Click("#policy-form button"))
	b.shows("#policy-form .told", `"permit x": want allow or deny`)
	b.do(chromedp.SetValue("#rules", "deny 192.0.2.0/24"), chromedp.Click("#policy-form button"))
	b.shows("#policy-form .told", "changed")
	require.Contains(t, l.vring.ctl("policy", "show"), "192.0.2.0/24")
}

// Many guests have their place on the page, and one is chosen by the keyboard.
func TestTheWebPageHasRoomFor64Guests(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	var more []string
	for i := range 63 {
		more = append(more, "--socket-path", filepath.Join(dir, fmt.Sprint("vm", i)))
	}
	d := (&daemon{t: t}).startAtSocket("nat", more...)
	b := browse(t, d)
	b.eventually("document.querySelectorAll('#picture [role=button]').length === 64")
	b.eventually("[...document.querySelectorAll('#picture rect')].every((r) => r.getBoundingClientRect().right <= innerWidth)")
	b.picture("ui-64.png")
	b.do(chromedp.Focus(`[data-guest="10.0.2.70"]`), chromedp.KeyEvent("\r"))
	b.shows("#flows-heading", "10.0.2.70")
	time.Sleep(2 * time.Second) // the picture is drawn again
	require.Equal(t, "10.0.2.70", b.tells("document.activeElement.dataset.guest"), "the focus stays")
	require.Equal(t, "true", b.tells("document.activeElement.getAttribute('aria-pressed')"))
}
