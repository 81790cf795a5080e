// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/watchglass/watchglass/internal/testenv"
)

// settling is how long a monitoring system may take to show what happened. It takes seconds.
const settling = 90 * time.Second

// session is the session id that the work in the sandbox pretends to belong to.
const session = "0199e2e0-prom-7000-8000-000000000000"

// TestPrometheus lets a real Prometheus scrape a real `watchglass collect` while a sandbox is at work: every
// query of the dashboard returns data, the alert on findings fires and no other does. What the collector
// sends by OTLP at the same time is, event for event, what it writes as JSON lines.
func TestPrometheus(t *testing.T) {
	testenv.E2E(t)
	testenv.RequireEBPF(t)
	binary, err := exec.LookPath("prometheus")
	if err != nil {
		testenv.Unable(t, "needs prometheus (the Debian package of that name)")
	}
	sink := startLogSink(t)
	c := startCollector(t, sink.url)
	server := startPrometheus(t, binary, c.address)
	server.eventually(t, "the first scrape", func() error {
		return server.returnsData(`watchglass_findings_total{severity="high"}`)
	})
	c.probe(t, "/healthz")
	c.probe(t, "/readyz")
	c.work(t, scenario{servicePort: serve(t, strings.Repeat("hello\n", 100)), refusedPort: refusing(t)})

	// No agent sends its telemetry here: what would be received and relayed has no series.
	received := regexp.MustCompile(`watchglass_(receiver|relay)_`)
	for _, query := range dashboardQueries(t) {
		if received.MatchString(query) {
			continue
		}
		server.eventually(t, query, func() error { return server.returnsData(query) })
	}
	server.eventually(t, "what the sandbox uses", func() error {
		return server.returnsData(`rate(watchglass_sandbox_cpu_seconds_total[15s]) * on (instance, sandbox) group_left (name) watchglass_sandbox_info > 0`)
	})
	server.eventually(t, "the alert on findings", server.findingsAlert)
	server.exemplars(t)

	written := c.stop(t)
	sink.compare(t, written)
}

// collect is a running `watchglass collect`.
type collect struct {
	command *exec.Cmd
	// address is where it serves metrics, events where it writes JSON lines, cgroup which sandbox it watches.
	address, events, cgroup string
	log                     *lockedBuffer
	working                 sync.WaitGroup
	enough                  context.CancelFunc
}

// lockedBuffer gathers what a process writes.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) add(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.WriteString(line + "\n")
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// startCollector starts the daemon with JSON lines and OTLP.
func startCollector(t *testing.T, otlp string) *collect {
	t.Helper()
	// The dashboards show what is off unless somebody asks for it, too.
	return startCollectorWith(t, fmt.Sprintf(`
kernel: {syscall_latency: true}
exporters:
  canary_interval: 1s
  json: {enabled: true, path: EVENTS}
  otlp: {endpoint: %s, protocol: http/protobuf, metrics_interval: 1s}
  prometheus: {address: "127.0.0.1:0"}
  webhooks: [{name: chat, url: %s/chat}]
`, otlp, startReceiver(t).url))
}

// startCollectorWith starts the daemon for one cgroup, which it also makes, and waits until it serves. EVENTS in the
// configuration stands for the file of JSON lines.
func startCollectorWith(t *testing.T, exporters string) *collect {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("watchglass-e2e-%d", os.Getpid())
	c := &collect{
		events: filepath.Join(t.ArtifactDir(), "events.jsonl"), cgroup: filepath.Join(cgroupMount(t), name), log: &lockedBuffer{},
	}
	if err := os.Mkdir(c.cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeCgroup(t, c.cgroup) })
	config := filepath.Join(t.TempDir(), "watchglass.yaml")
	text := fmt.Sprintf(`
sandboxes: {cgroups: [/%s], usage_interval: 1s}
journal: {dir: %s}
`, name, filepath.Join(t.TempDir(), "journal")) + strings.ReplaceAll(exporters, "EVENTS", c.events)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.command = exec.Command(path, "collect", "--config", config)
	stderr, err := c.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.command.Process.Kill()
		_ = c.command.Wait()
		// One that is killed leaves its programs at work.
		if out, err := exec.Command(path, "collect", "--unload", "--config", config).CombinedOutput(); err != nil {
			t.Errorf("removing the pins: %v\n%s", err, out)
		}
	})
	serving := make(chan string, 1)
	go c.readLog(stderr, serving)
	select {
	case c.address = <-serving:
	case <-time.After(settling):
		t.Fatalf("the collector does not serve metrics:\n%s", c.log)
	}
	return c
}

func (c *collect) readLog(stderr io.Reader, serving chan<- string) {
	address := regexp.MustCompile(`msg="serving metrics" address=(\S+)`)
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		c.log.add(lines.Text())
		if m := address.FindStringSubmatch(lines.Text()); m != nil {
			serving <- m[1]
		}
	}
}

// probe asks as an orchestrator would.
func (c *collect) probe(t *testing.T, path string) {
	t.Helper()
	body, err := fetch("http://" + c.address + path)
	if err != nil || string(body) != "ok\n" {
		t.Errorf("%s: %v %q", path, err, body)
	}
}

// work keeps a shell at work in the sandbox until stop: it reads a secret, and what else an agent does.
func (c *collect) work(t *testing.T, s scenario) {
	t.Helper()
	home := t.TempDir()
	secret := filepath.Join(home, ".aws", "credentials")
	if err := os.Mkdir(filepath.Dir(secret), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, []byte("[default]\naws_secret_access_key = not-a-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	directory, err := os.Open(c.cgroup)
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`cat .aws/credentials >/dev/null
echo change >> file; cat file >/dev/null; cat missing; false
exec 3<>/dev/tcp/127.0.0.1/%d && cat <&3 >/dev/null; exec 3<&-
(echo >/dev/tcp/127.0.0.1/%d); sleep 0.1; true`, s.servicePort, s.refusedPort)
	ctx, cancel := context.WithCancel(context.Background())
	c.enough = cancel
	t.Cleanup(cancel)
	c.working.Go(func() {
		defer func() { _ = directory.Close() }()
		for ctx.Err() == nil {
			command := exec.CommandContext(ctx, "bash", "-c", script)
			command.Dir = home
			command.Env = []string{"HOME=" + home, "PATH=/usr/bin:/bin", "CODEX_THREAD_ID=0199e2e0-thread", "CODEX_SESSION_ID=" + session}
			command.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(directory.Fd())}
			_ = command.Run()
		}
	})
}

// stop ends the work, then the collector, and returns what it wrote.
func (c *collect) stop(t *testing.T) stream {
	t.Helper()
	c.enough()
	c.working.Wait()
	if err := c.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.command.Wait(); err != nil {
		t.Fatalf("the collector ended badly: %v\n%s", err, c.log)
	}
	if text := c.log.String(); strings.Contains(text, "level=ERROR") || strings.Contains(text, "level=WARN") {
		t.Errorf("the collector complained:\n%s", text)
	}
	file, err := os.Open(c.events)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	written, err := readStream(file)
	if err != nil {
		t.Fatal(err)
	}
	return written
}

// monitor is a running Prometheus.
type monitor struct{ url string }

func startPrometheus(t *testing.T, binary, target string) monitor {
	t.Helper()
	alerts, err := filepath.Abs(filepath.Join(root, "dashboards", "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	return runPrometheus(t, binary, target, fmt.Sprintf("rule_files: [%s]", alerts))
}

// startPrometheusWith is startPrometheus with an Alertmanager that is told at once what the rules find.
func startPrometheusWith(t *testing.T, binary, target, alertmanager string) monitor {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "dashboards", "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	alerts := filepath.Join(t.TempDir(), "alerts.yml")
	if err := os.WriteFile(alerts, regexp.MustCompile(`(?m)^        for: \w+$`).ReplaceAll(text, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	return runPrometheus(t, binary, target, fmt.Sprintf(
		"rule_files: [%s]\nalerting: {alertmanagers: [{static_configs: [{targets: [%q]}]}]}", alerts, alertmanager))
}

func runPrometheus(t *testing.T, binary, target, rules string) monitor {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
%s
scrape_configs:
  - job_name: watchglass
    static_configs: [{targets: [%q]}]
  - job_name: watchglass-sandboxes
    metrics_path: /metrics/sandboxes
    static_configs: [{targets: [%q]}]
`, rules, target, target)
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", refusing(t))
	command := exec.Command(binary, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--enable-feature=exemplar-storage", "--log.level=warn")
	var output strings.Builder
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		if err := command.Wait(); err != nil || t.Failed() {
			t.Logf("Prometheus: %v\n%s", err, output.String())
		}
	})
	return monitor{"http://" + address}
}

// eventually asks until the answer is as it should be.
func (m monitor) eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(settling)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s: %v", what, err)
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// ask gets the data of an API call into result.
func (m monitor) ask(path string, values url.Values, result any) error {
	body, err := fetch(m.url + path + "?" + values.Encode())
	if err != nil {
		return err
	}
	answer := struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   any    `json:"data"`
	}{Data: result}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("parse %q: %w", body, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", answer.Status, answer.Error)
	}
	return nil
}

// returnsData says whether a query has at least one sample that is a number.
func (m monitor) returnsData(query string) error {
	var data struct {
		Result []struct {
			Value [2]any `json:"value"`
		} `json:"result"`
	}
	if err := m.ask("/api/v1/query", url.Values{"query": {query}}, &data); err != nil {
		return err
	}
	for _, sample := range data.Result {
		text, _ := sample.Value[1].(string)
		if n, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(n) {
			return nil
		}
	}
	return fmt.Errorf("no data in %v", data.Result)
}

// findingsAlert says whether the alert on the secret fires, and no other alert does.
func (m monitor) findingsAlert() error {
	var data struct {
		Alerts []struct {
			State       string            `json:"state"`
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"alerts"`
	}
	if err := m.ask("/api/v1/alerts", nil, &data); err != nil {
		return err
	}
	fires := false
	for _, a := range data.Alerts {
		switch {
		case a.Labels["alertname"] != "WatchglassFindingHigh":
			return fmt.Errorf("the alert %v is %s", a.Labels, a.State)
		case a.Labels["rule"] == "secret-read" && a.State == "firing":
			fires = strings.HasSuffix(a.Annotations["runbook_url"], "/dashboards/runbooks/WatchglassFindingHigh.md")
		}
	}
	if !fires {
		return fmt.Errorf("it does not fire among %v", data.Alerts)
	}
	return nil
}

// exemplars: the way from the counter of findings to the event and the session.
func (m monitor) exemplars(t *testing.T) {
	t.Helper()
	var data []struct {
		Exemplars []struct {
			Labels map[string]string `json:"labels"`
		} `json:"exemplars"`
	}
	values := url.Values{
		"query": {`watchglass_findings_total{rule="secret-read"}`},
		"start": {strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10)}, "end": {strconv.FormatInt(time.Now().Unix()+1, 10)},
	}
	if err := m.ask("/api/v1/query_exemplars", values, &data); err != nil {
		t.Fatal(err)
	}
	for _, series := range data {
		for _, e := range series.Exemplars {
			if e.Labels["event_uid"] != "" && e.Labels["session_id"] == session {
				return
			}
		}
	}
	t.Errorf("no exemplar with event and session in %v", data)
}

// dashboardQueries is the queries of the dashboard, as Grafana would send them.
func dashboardQueries(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "dashboards", "overview.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$__rate_interval", "15s", "$__range", "5m", "$job", "watchglass", "$instance", ".*")
	var queries []string
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			queries = append(queries, variables.Replace(target.Expr))
		}
	}
	if len(queries) == 0 {
		t.Fatal("the dashboard has no queries")
	}
	return queries
}

// cgroupMount is where cgroup2 is mounted.
func cgroupMount(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1]
		}
	}
	testenv.Unable(t, "needs a cgroup2 mount")
	return ""
}

// removeCgroup waits for the last process to go.
func removeCgroup(t *testing.T, path string) {
	t.Helper()
	_ = os.WriteFile(filepath.Join(path, "cgroup.kill"), []byte("1"), 0)
	for range 100 {
		if err := os.Remove(path); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%s could not be removed", path)
}

// fetch gets a page that answers 200, and says so otherwise.
func fetch(address string) ([]byte, error) {
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get(address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return body, fmt.Errorf("HTTP %d: %q", answer.StatusCode, body)
	}
	return body, nil
}

// uids is every record's log.record.uid, sorted.
func (s stream) uids() []string {
	var uids []string
	for _, r := range s.records {
		uids = append(uids, r.text("log.record.uid"))
	}
	slices.Sort(uids)
	return uids
}
