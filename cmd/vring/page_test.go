package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/porttest"
)

// pageClient is a browser that keeps no address: it has the cookie that it was given.
func pageClient(cookie *http.Cookie) func(t *testing.T, url string) (status int, body string, got []*http.Cookie) {
	client := &http.Client{
		Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(t *testing.T, url string) (int, string, []*http.Cookie) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		require.NoError(t, err)
		if cookie != nil {
			r.AddCookie(cookie)
		}
		answer, err := client.Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(body), answer.Cookies()
	}
}

func TestThePageOfAVringAnswersWhoHasItsTokenAndEndsWithIt(t *testing.T) {
	for _, mode := range []string{"on", "off"} {
		t.Run("sandbox "+mode, func(t *testing.T) {
			at := porttest.FreePort(t).String()
			t.Run("while it serves", func(t *testing.T) {
				c := startControlled(t, "--ui", at, "--sandbox", mode)
				url := c.logged(`msg="web page" url="?(http://[^"\s]+)`)
				require.True(t, strings.HasPrefix(url[1], "http://"+at+"/?token="), url[1])

				stranger := pageClient(nil)
				for _, path := range []string{"/", "/v1/status", "/?token=x"} {
					status, _, _ := stranger(t, "http://"+at+path)
					require.Equal(t, http.StatusUnauthorized, status, path)
				}
				status, _, cookies := stranger(t, url[1])
				require.Equal(t, http.StatusSeeOther, status)
				require.Len(t, cookies, 1)
				known := pageClient(cookies[0])
				status, body, _ := known(t, "http://"+at+"/")
				require.Equal(t, http.StatusOK, status)
				require.Contains(t, body, "<html")
				status, body, _ = known(t, "http://"+at+"/v1/status")
				require.Equal(t, http.StatusOK, status)
				require.Contains(t, body, "10.0.2.16")

				code, _, stderr := c.ctl("policy", "replace", "--allow-host", "tcp:"+portOf(at))
				require.Equal(t, exitUsage, code)
				require.Contains(t, stderr, "would lead guests to the page")
				code, _, stderr = runHere(t, "nat", "--socket-path", c.socket+".other", "--ui", at)
				require.Equal(t, exitUsage, code)
				require.Contains(t, stderr, "--ui "+at+": address already in use")
			})
			require.Eventually(t, func() bool {
				some, err := net.Dial("tcp4", at)
				if err == nil {
					_ = some.Close()
				}
				return err != nil
			}, time.Minute, time.Millisecond, "it has ended with vring")
		})
	}
}
