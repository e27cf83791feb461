package control

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheAuditLogThatThereIsNotIsNotChanged(t *testing.T) {
	b := newBench(t, 1)
	_, text := b.ask(http.MethodGet, "/v1/audit-log", "")
	require.JSONEq(t, `{"path": "", "on": false, "bytes": 0, "fails": false}`, text)
	before := b.d.Config()
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"PUT", "/v1/audit-log", `{}`, 422, "want a path, on, or both"},
		{"PUT", "/v1/audit-log", `{"path": "/etc/passwd"}`, 422, "while guests are served"},
		{"PUT", "/v1/audit-log", `{"on": false}`, 422, "there is nothing to write"},
		{"PUT", "/v1/audit-log", `{"on": "no"}`, 400, "cannot unmarshal string"},
		{"PUT", "/v1/audit-log", `{"off": true}`, 400, "unknown field"},
		{"PUT", "/v1/audit-log", `{"path": "/tmp/x\u0000y"}`, 422, "a character of value 0"},
		{"POST", "/v1/audit-log/reopened", `{"path": "/etc/passwd"}`, 400, "it must be empty"},
		{"POST", "/v1/audit-log/reopened", "", 422, "there is no audit log"},
		{"GET", "/v1/guests/10.0.2.99/learned", "", 404, "there is no guest"},
		{"GET", "/v1/guests/10.0.2.15/learned", "", 422, "nothing is learned"},
	} {
		require.Contains(t, b.refuse(c.status, c.method, c.path, c.body).Text, c.says, "%s %s %s", c.method, c.path, c.body)
	}
	require.Equal(t, before, b.d.Config())
}
