package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
)

// promtool runs Prometheus' tool, which must find nothing to say against its input.
func promtool(t *testing.T, input []byte, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(limited(t), filepath.Join(guest.ProjectRoot(), ".cache", "promtool"), args...)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "promtool %s: %s", strings.Join(args, " "), out)
}

// monitoring is the path of a file that users give to Prometheus or Grafana.
func monitoring(name string) string {
	return filepath.Join(guest.ProjectRoot(), "docs", "monitoring", name)
}

// Each alert fires where it should, and is silent where it should not.
func TestPrometheusTakesTheAlertRules(t *testing.T) {
	promtool(t, nil, "check", "rules", monitoring("alerts.yaml"))
	promtool(t, nil, "test", "rules", monitoring("alerts_test.yaml"))
}

// Each alert has a case of both kinds.
func TestEachAlertIsTried(t *testing.T) {
	var rules struct {
		Groups []struct{ Rules []struct{ Alert string } }
	}
	var cases struct {
		Tests []struct {
			Alerts []struct {
				Name     string           `yaml:"alertname"`
				Expected []map[string]any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	for name, into := range map[string]any{"alerts.yaml": &rules, "alerts_test.yaml": &cases} {
		text, err := os.ReadFile(monitoring(name))
		require.NoError(t, err)
		require.NoError(t, yaml.Unmarshal(text, into))
	}
	tried := map[string]bool{}
	for _, c := range cases.Tests {
		for _, a := range c.Alerts {
			tried[fmt.Sprint(a.Name, len(a.Expected) > 0)] = true
		}
	}
	require.NotEmpty(t, rules.Groups)
	for _, r := range rules.Groups[0].Rules {
		require.True(t, tried[r.Alert+"true"], "no case in which %s fires", r.Alert)
		require.True(t, tried[r.Alert+"false"], "no case in which %s is silent", r.Alert)
	}
}

// Prometheus can read what the panels of the dashboard ask for, when Grafana has put in its variables.
func TestPrometheusUnderstandsTheDashboard(t *testing.T) {
	text, err := os.ReadFile(monitoring("grafana.json"))
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rules []rule
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$guest", ".*").Replace(target.Expr)
			rules = append(rules, rule{fmt.Sprint("panel:", len(rules)), expr})
		}
	}
	require.Greater(t, len(rules), 50)
	type group struct {
		Name  string `yaml:"name"`
		Rules []rule `yaml:"rules"`
	}
	text, err = yaml.Marshal(map[string][]group{"groups": {{"dashboard", rules}}})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	promtool(t, nil, "check", "rules", path)
}

// page is what Prometheus reads of d, by its control socket.
func (d *daemon) page() []byte {
	d.t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.Socket+".ctl")
	}}}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://vring/v1/metrics")
	require.NoError(d.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(d.t, err)
	return text
}
