package metrics

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// monitoring reads a file of docs/monitoring.
func monitoring(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "monitoring", name))
	require.NoError(t, err)
	return text
}

var (
	metricName   = regexp.MustCompile(`\bvring_[a-z0-9_]+`)
	ratedName    = regexp.MustCompile(`\brate\((vring_[a-z0-9_]+)`)
	variableName = regexp.MustCompile(`\$\{?(\w+)`)
	grouping     = regexp.MustCompile(`\bby \(([a-z, ]+)\)`)
)

// requireVariables checks that a text of the dashboard names variables that there are.
func requireVariables(t *testing.T, where, text string, variables map[string]bool) {
	t.Helper()
	for _, m := range variableName.FindAllStringSubmatch(text, -1) {
		require.True(t, variables[m[1]], "%s: there is no variable %s", where, m[1])
	}
}

// requireExpression checks an expression of Prometheus: its metrics exist, of counters it takes the rate and of nothing else, and it groups
// by labels that they all have.
func requireExpression(t *testing.T, where, expr string) {
	t.Helper()
	known := map[string]Metric{}
	for _, m := range Table() {
		if m.Kind != Histogram {
			known[m.Name] = m
			continue
		}
		m.Labels = append(slices.Clone(m.Labels), "le")
		known[m.Name+"_bucket"] = m
	}
	require.Equal(t, strings.Count(expr, "("), strings.Count(expr, ")"), "%s: brackets of %s", where, expr)
	names, rated := metricName.FindAllString(expr, -1), 0
	require.NotEmpty(t, names, "%s: %s", where, expr)
	for _, m := range ratedName.FindAllStringSubmatch(expr, -1) {
		require.NotEqual(t, Gauge, known[m[1]].Kind, "%s: the rate of %s, which is a gauge", where, m[1])
		rated++
	}
	for _, name := range names {
		m, found := known[name]
		require.True(t, found, "%s: there is no %s", where, name)
		for _, by := range grouping.FindAllStringSubmatch(expr, -1) {
			for label := range strings.SplitSeq(by[1], ", ") {
				require.True(t, label == "instance" || slices.Contains(m.Labels, label), "%s: %s has no %s", where, name, label)
			}
		}
		if m.Kind != Gauge {
			rated--
		}
	}
	require.Zero(t, rated, "%s: a counter without its rate in %s", where, expr)
}

func TestAlertRulesAskForWhatThereIs(t *testing.T) {
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.UnmarshalWithOptions(monitoring(t, "alerts.yaml"), &file, yaml.Strict()))
	alerts := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			require.False(t, alerts[r.Alert], "%s is there twice", r.Alert)
			alerts[r.Alert] = true
			requireExpression(t, r.Alert, r.Expr)
			require.Regexp(t, `^\d+m$`, r.For, r.Alert)
			require.Contains(t, []string{"info", "warning", "critical"}, r.Labels["severity"], r.Alert)
			require.NotEmpty(t, r.Annotations["summary"], r.Alert)
			require.NotEmpty(t, r.Annotations["description"], "%s: what is to be done", r.Alert)
		}
	}
	require.GreaterOrEqual(t, len(alerts), 8)
}

func TestTheDashboardAsksForWhatThereIs(t *testing.T) {
	var dashboard struct {
		Panels []struct {
			ID                 int
			Title, Description string
			GridPos            struct{ X, Y, W, H int }
			Datasource         struct{ Type, UID string }
			Targets            []struct{ Expr, RefID, LegendFormat string }
		}
		Templating struct {
			List []struct{ Name, Query string }
		}
	}
	require.NoError(t, json.Unmarshal(monitoring(t, "grafana.json"), &dashboard))
	variables := map[string]bool{"__rate_interval": true} // which Grafana makes
	for _, v := range dashboard.Templating.List {
		variables[v.Name] = true
	}
	shown := map[string]bool{}
	ids, places := map[int]bool{}, map[[2]int]bool{}
	for _, p := range dashboard.Panels {
		require.False(t, ids[p.ID], "two panels have number %d", p.ID)
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				require.False(t, places[[2]int{x, y}], "%s lies on another panel", p.Title)
				places[[2]int{x, y}] = true
			}
		}
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, "%s is wider than the page", p.Title)
		require.Equal(t, "prometheus", p.Datasource.Type, p.Title)
		requireVariables(t, p.Title, p.Datasource.UID, variables)
		require.NotEmpty(t, p.Title)
		require.NotEmpty(t, p.Description, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		refs := map[string]bool{}
		for _, target := range p.Targets {
			require.False(t, refs[target.RefID], "%s: %s is there twice", p.Title, target.RefID)
			refs[target.RefID] = true
			require.NotEmpty(t, target.LegendFormat, p.Title)
			requireExpression(t, p.Title, target.Expr)
			requireVariables(t, p.Title, target.Expr, variables)
			for _, name := range metricName.FindAllString(target.Expr, -1) {
				shown[name] = true
			}
		}
	}
	require.GreaterOrEqual(t, len(ids), 10)
	for _, m := range Table() { // causes of ends are complete
		require.True(t, !strings.HasPrefix(m.Name, "vring_nat_ended_") || shown[m.Name], "no panel has %s", m.Name)
	}
	for _, v := range dashboard.Templating.List {
		for _, name := range metricName.FindAllString(v.Query, -1) {
			require.True(t, slices.ContainsFunc(Table(), func(m Metric) bool { return m.Name == name }), "%s: there is no %s", v.Name, name)
		}
	}
}
