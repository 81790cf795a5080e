// SPDX-License-Identifier: Apache-2.0

package dashboards

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
	"github.com/watchglass/watchglass/internal/testenv"
)

// The parts of a Grafana dashboard that the tests look at.
type dashboard struct {
	UID           string  `json:"uid"`
	Title         string  `json:"title"`
	SchemaVersion int     `json:"schemaVersion"`
	Panels        []panel `json:"panels"`
	Templating    struct {
		List []struct {
			Name string `json:"name"`
			Type string `json:"type"`
		} `json:"list"`
	} `json:"templating"`
}

type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	GridPos     struct{ H, W, X, Y int }
	Datasource  source `json:"datasource"`
	Targets     []struct {
		RefID      string `json:"refId"`
		Expr       string `json:"expr"`
		Datasource source `json:"datasource"`
	} `json:"targets"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
}

type source struct{ Type, UID string }

type ruleFile struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []struct {
			Alert       string            `yaml:"alert"`
			Expr        string            `yaml:"expr"`
			For         string            `yaml:"for"`
			Labels      map[string]string `yaml:"labels"`
			Annotations map[string]string `yaml:"annotations"`
		} `yaml:"rules"`
	} `yaml:"groups"`
}

func loadDashboards(t *testing.T) []dashboard {
	t.Helper()
	files, err := fs.Glob(Files, "*.json")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	var list []dashboard
	for _, file := range files {
		text, err := Files.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		list = append(list, d)
	}
	return list
}

// panels is the panels of all dashboards.
func panels(t *testing.T) (list []panel) {
	t.Helper()
	for _, d := range loadDashboards(t) {
		for _, p := range d.Panels {
			p.Title = d.Title + ": " + p.Title
			list = append(list, p)
		}
	}
	return list
}

func loadRules(t *testing.T) ruleFile {
	t.Helper()
	text, err := Files.ReadFile("alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var f ruleFile
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&f); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	for _, d := range loadDashboards(t) {
		t.Run(d.Title, func(t *testing.T) { checkDashboard(t, d) })
	}
}

func checkDashboard(t *testing.T, d dashboard) {
	t.Helper()
	const grafana11 = 39
	if d.UID == "" || d.Title == "" || d.SchemaVersion < grafana11 {
		t.Errorf("uid %q, title %q, schema version %d", d.UID, d.Title, d.SchemaVersion)
	}
	variables := map[string]bool{"__range": true, "__rate_interval": true}
	for _, v := range d.Templating.List {
		variables[v.Name] = true
	}
	ids, cells := map[int]string{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if other, taken := ids[p.ID]; taken {
			t.Errorf("%s and %s have the same id %d", p.Title, other, p.ID)
		}
		ids[p.ID] = p.Title
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, taken := cells[[2]int{x, y}]; taken || x >= 24 {
					t.Fatalf("%s lies over %q or beyond the edge at %d, %d", p.Title, other, x, y)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" {
			checkPanel(t, p, variables)
		}
	}
}

func checkPanel(t *testing.T, p panel, variables map[string]bool) {
	t.Helper()
	if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
		t.Errorf("%s lacks a description, a unit or a query", p.Title)
	}
	for _, target := range p.Targets {
		if target.Datasource.UID != "${datasource}" || target.RefID == "" {
			t.Errorf("%s: query %q on data source %q", p.Title, target.RefID, target.Datasource.UID)
		}
		if !strings.Contains(target.Expr, `job=~"$job",instance=~"$instance"`) {
			t.Errorf("%s: %s does not heed the variables", p.Title, target.Expr)
		}
		for _, v := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
			if !variables[v[1]] {
				t.Errorf("%s: there is no variable %s", p.Title, v[1])
			}
		}
	}
}

// metricLabels is the labels of every metric that a collector has, by the names under which it is queried.
func metricLabels(t *testing.T) map[string][]string {
	t.Helper()
	m := exporters.NewMetrics(func() event.Stats { return event.Stats{} })
	labels := map[string][]string{"up": nil}
	for _, i := range append(m.Instruments(), exporters.NewSandboxMetrics(nil, 0).Instruments()...) {
		labels[i.Name] = i.Labels
		if i.Type == "histogram" {
			labels[i.Name+"_bucket"] = append([]string{"le"}, i.Labels...)
			labels[i.Name+"_sum"], labels[i.Name+"_count"] = i.Labels, i.Labels
		}
	}
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if _, ours := labels[family.GetName()]; !ours {
			labels[family.GetName()] = nil
		}
	}
	return labels
}

// TestMetricsExist: every metric and label in a query of the dashboard or an alert is one that the collector has.
func TestMetricsExist(t *testing.T) {
	t.Parallel()
	expressions := map[string]string{}
	for _, p := range panels(t) {
		for _, target := range p.Targets {
			expressions[p.Title+" "+target.RefID] = target.Expr
		}
	}
	for _, g := range loadRules(t).Groups {
		for _, r := range g.Rules {
			expressions[r.Alert] = r.Expr
		}
	}
	labels := metricLabels(t)
	queried := map[string]bool{}
	for name, expr := range expressions {
		used := checkNames(t, name, expr, labels)
		if len(used) == 0 {
			t.Errorf("%s queries no metric: %s", name, expr)
		}
		for _, metric := range used {
			queried[metric] = true
		}
	}
	// The other way round: what nobody looks at needs a reason.
	unused := []string{
		"watchglass_events_total",                                // by severity too; the dashboard shows what was published
		"watchglass_probe_missed_total", "watchglass_probe_plan", // told of by `watchglass check` and as losses
		"watchglass_probe_at_root", // what the node pays, of which the log says why
		"watchglass_pins",          // how this start went: nothing to be woken for, and `watchglass check` says what to do
	}
	for _, metric := range slices.Sorted(maps.Keys(labels)) {
		if strings.HasPrefix(metric, "watchglass_") && !queried[metric] && !queried[metric+"_bucket"] &&
			!slices.Contains(unused, metric) && !strings.HasSuffix(metric, "_sum") && !strings.HasSuffix(metric, "_count") {
			t.Errorf("nobody looks at %s", metric)
		}
	}
}

// checkNames takes an expression apart into words: those that are called or belong to the language, those
// in braces and after "by" (labels), and the rest, which are metrics.
func checkNames(t *testing.T, name, expr string, labels map[string][]string) []string {
	t.Helper()
	var metrics, used []string
	text := regexp.MustCompile(`"[^"]*"|\[[^\]]*\]`).ReplaceAllString(expr, `""`)
	by := regexp.MustCompile(`\b(?:by|without|on|group_left)\s*\(([^)]*)\)`)
	braces := regexp.MustCompile(`\{([^}]*)\}`)
	word := regexp.MustCompile(`[a-zA-Z_]\w*`)
	for _, m := range by.FindAllStringSubmatch(text, -1) {
		used = append(used, word.FindAllString(m[1], -1)...)
	}
	text = by.ReplaceAllString(text, "")
	for _, m := range braces.FindAllStringSubmatch(text, -1) {
		used = append(used, word.FindAllString(m[1], -1)...)
	}
	text = braces.ReplaceAllString(text, "")
	language := []string{
		"sum", "count", "max", "rate", "increase", "topk", "sort_desc", "histogram_quantile", "vector",
		"or", "unless", "offset", "m", "time", "min", "on", "group_left",
	}
	for _, w := range word.FindAllString(text, -1) {
		if slices.Contains(language, w) {
			continue
		}
		if _, ok := labels[w]; !ok {
			t.Errorf("%s: there is no metric %s", name, w)
		}
		metrics = append(metrics, w)
	}
	for _, label := range used {
		known := label == "job" || label == "instance"
		for _, metric := range metrics {
			known = known || slices.Contains(labels[metric], label)
		}
		if !known {
			t.Errorf("%s: none of %v has the label %s", name, metrics, label)
		}
	}
	return metrics
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	tests, err := Files.ReadFile("rules_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	runbooks := map[string]bool{}
	for _, g := range loadRules(t).Groups {
		for _, r := range g.Rules {
			if !slices.Contains([]string{"critical", "warning"}, r.Labels["severity"]) {
				t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s lacks a summary or a description", r.Alert)
			}
			file := path.Join("runbooks", r.Alert+".md")
			runbooks[file] = true
			if !strings.HasSuffix(r.Annotations["runbook_url"], "/dashboards/"+file) {
				t.Errorf("%s: runbook_url %q, want %s", r.Alert, r.Annotations["runbook_url"], file)
			}
			checkRunbook(t, file)
			if !bytes.Contains(tests, fmt.Appendf(nil, "- alertname: %s\n", r.Alert)) ||
				!bytes.Contains(tests, fmt.Appendf(nil, "- {alertname: %s, ", r.Alert)) {
				t.Errorf("rules_test.yml does not show %s both firing and not firing", r.Alert)
			}
		}
	}
	files, err := fs.Glob(Files, "runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !runbooks[file] {
			t.Errorf("%s belongs to no alert", file)
		}
	}
}

func checkRunbook(t *testing.T, file string) {
	t.Helper()
	text, err := Files.ReadFile(file)
	if err != nil {
		t.Error(err)
		return
	}
	for _, heading := range []string{"# ", "## Meaning\n\n", "## Impact\n\n", "## Diagnosis\n\n", "## Mitigation\n\n"} {
		if !bytes.Contains(text, []byte("\n"+heading)) {
			t.Errorf("%s has no %q", file, strings.TrimSpace(heading))
		}
	}
}

// TestPromtool: Prometheus itself takes the rules, each alert fires when it should and not when it should
// not, and every expression of the dashboard parses.
func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("WATCHGLASS_E2E") != "1" {
			t.Skip("promtool is not installed (Debian package prometheus); make test-e2e installs it and runs this test")
		}
		testenv.Unable(t, "promtool is not installed (Debian package prometheus)")
	}
	run := func(args ...string) {
		t.Helper()
		if output, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, output)
		}
	}
	run("check", "rules", "alerts.yml")
	run("test", "rules", "rules_test.yml")

	// promtool has no command for expressions alone, but it checks those of recording rules.
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rules []rule
	for _, p := range panels(t) {
		for i, target := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h").Replace(target.Expr)
			rules = append(rules, rule{fmt.Sprintf("panel_%d:target_%d", len(rules), i), expr})
		}
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	run("check", "rules", file)
}
