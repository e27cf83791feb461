package control

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// upgrade is what a request for a connection to a guest has.
var upgradeHeaders = map[string]string{"Connection": "Upgrade", "Upgrade": "tcp"}

func TestWhyThereIsNoConnectionToAGuestIsTold(t *testing.T) {
	b := newBench(t, 2)
	at := "/v1/guests/10.0.2.15/connect"
	for _, c := range []struct {
		path    string
		headers map[string]string
		body    string
		status  int
		says    string
	}{
		{at + "?to=22", nil, "", 426, "send Connection: Upgrade and Upgrade: tcp"},
		{at + "?to=22", map[string]string{"Connection": "Upgrade", "Upgrade": "websocket"}, "", 426, "send Connection: Upgrade and Upgrade: tcp"},
		{at + "?to=22", upgradeHeaders, "{}", 415, "send JSON"},
		{at + "?to=22", map[string]string{"Connection": "Upgrade", "Upgrade": "tcp", "Content-Type": "application/json"}, "{}", 400, "it must be empty"},
		{at, upgradeHeaders, "", 400, "want [ADDRESS:]PORT"},
		{at + "?to=0", upgradeHeaders, "", 400, "want [ADDRESS:]PORT, as in 22, 10.0.2.15:22 or [fd00:10:0:2::15]:22"},
		{at + "?to=65536", upgradeHeaders, "", 400, "want [ADDRESS:]PORT"},
		{at + "?to=web:80", upgradeHeaders, "", 400, "want [ADDRESS:]PORT"},
		{at + "?to=[fe80::1%25eth0]:80", upgradeHeaders, "", 400, "want [ADDRESS:]PORT"},
		{"/v1/guests/nobody/connect?to=22", upgradeHeaders, "", 404, `there is no guest \"nobody\"`},
		{at + "?to=10.0.2.16:22", upgradeHeaders, "", 422, "10.0.2.16 is the address of another guest"},
		{at + "?to=192.0.2.1:22", upgradeHeaders, "", 422, "192.0.2.1 is no guest's address"},
		{at + "?to=22", upgradeHeaders, "", 503, "guest 10.0.2.15 has no front end"},
	} {
		status, text := b.askWith(http.MethodPost, c.path, c.body, c.headers)
		require.Equal(t, c.status, status, "%s: %s", c.path, text)
		require.Contains(t, text, c.says, c.path)
	}
	require.NoError(t, b.d.SetLink("10.0.2.15", false))
	_, err := b.client.Connect(t.Context(), "10.0.2.15", "22")
	refused := new(RefusedError)
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusServiceUnavailable, refused.Status)
	require.Equal(t, "the link of guest 10.0.2.15 is down; vring ctl link 10.0.2.15 up takes it up", refused.Reason.Text)
	require.NoError(t, b.d.SetLink("10.0.2.15", true))

	_, err = b.d.StartDrain(time.Hour, func() {})
	require.NoError(t, err)
	_, err = b.client.Connect(t.Context(), "10.0.2.15", "22")
	require.ErrorContains(t, err, "it is draining")
	require.NoError(t, b.d.CancelDrain())

	for range maxConnecting {
		b.server.connecting <- struct{}{}
	}
	_, err = b.client.Connect(t.Context(), "10.0.2.15", "22")
	require.ErrorContains(t, err, "16 clients wait for guests to accept them")
	for range maxConnecting {
		<-b.server.connecting
	}
}

// What is the guest's may not come before the answer: the server has read it with the request.
func TestAClientThatDoesNotAwaitTheAnswerIsTold(t *testing.T) {
	b := newBench(t, 1)
	c, err := net.Dial("unix", b.path)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(c, "POST /v1/guests/10.0.2.15/connect?to=22 HTTP/1.1\r\nHost: vring\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, response.StatusCode)
	require.Contains(t, string(text), "5 bytes follow the request; send what is the guest's after the answer")
}

// Whoever is turned down leaves nothing behind.
func TestConnectionsThatAreTurnedDownCostNothing(t *testing.T) {
	b := newBench(t, 1)
	b.requireAnswers()
	b.client.Close()
	descriptors, goroutines := held(t)
	for range 100 {
		_, err := b.client.Connect(t.Context(), "10.0.2.15", "22")
		require.ErrorContains(t, err, "has no front end")
	}
	b.requireReturned(descriptors, goroutines)
}
