// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/watchglass/watchglass/internal/testenv"
)

// told is what a receiver of webhooks was told: by Alertmanager, and by the collector itself.
type told struct {
	url string
	mu  sync.Mutex
	// alerts is the alerts of Alertmanager by status and name; documents what the collector posted.
	alerts    map[string][]map[string]string
	documents []string
	broken    bool
}

func startReceiver(t *testing.T) *told {
	t.Helper()
	r := &told{alerts: map[string][]map[string]string{}}
	listener := listen(t)
	r.url = "http://" + listener.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /alertmanager", func(_ http.ResponseWriter, request *http.Request) {
		var notification struct {
			Alerts []struct {
				Status              string
				Labels, Annotations map[string]string
			}
		}
		if json.NewDecoder(request.Body).Decode(&notification) != nil {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, a := range notification.Alerts {
			key := a.Status + " " + a.Labels["alertname"]
			all := map[string]string{}
			maps.Copy(all, a.Annotations)
			maps.Copy(all, a.Labels)
			r.alerts[key] = append(r.alerts[key], all)
		}
	})
	mux.HandleFunc("POST /chat", func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.broken {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		r.documents = append(r.documents, string(body))
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return r
}

// has says whether an alert of that status and name with that label was told.
func (r *told) has(alert, label, value string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.alerts[alert] {
		if a[label] == value {
			return nil
		}
	}
	return fmt.Errorf("no alert %q with %s=%q among %v", alert, label, value, r.alerts)
}

func (r *told) document(parts ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
documents:
	for _, d := range r.documents {
		for _, part := range parts {
			if !strings.Contains(d, part) {
				continue documents
			}
		}
		return nil
	}
	return fmt.Errorf("no document with %q among %q", parts, r.documents)
}

// alertmanager is a running Alertmanager.
type alertmanager struct {
	address, config string
	command         *exec.Cmd
}

func (a *alertmanager) start(t *testing.T) {
	t.Helper()
	a.command = exec.Command("prometheus-alertmanager", "--config.file="+a.config, "--storage.path="+t.TempDir(),
		"--web.listen-address="+a.address, "--cluster.listen-address=", "--log.level=warn")
	a.command.Stderr = os.Stderr
	a.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := a.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.kill)
}

func (a *alertmanager) kill() {
	_ = a.command.Process.Kill()
	_ = a.command.Wait()
}

// has says whether it knows of an active alert with that label.
func (a *alertmanager) has(label, value string) error {
	body, err := fetch("http://" + a.address + "/api/v2/alerts?active=true")
	if err != nil {
		return err
	}
	var list []struct{ Labels map[string]string }
	if err := json.Unmarshal(body, &list); err != nil {
		return err
	}
	for _, alert := range list {
		if alert.Labels[label] == value {
			return nil
		}
	}
	return fmt.Errorf("no alert with %s=%q among %s", label, value, body)
}

func address(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(refusing(t)))
}

// TestFindingsAreTold: a secret that is read reaches people through a real Alertmanager, also one that was
// away, and through a webhook; canaries prove both ways; when one is broken, Prometheus and Alertmanager say
// so; and when the collector is gone, its alerts are over.
func TestFindingsAreTold(t *testing.T) {
	testenv.E2E(t)
	testenv.RequireEBPF(t)
	prometheus, err := exec.LookPath("prometheus")
	if _, missing := exec.LookPath("prometheus-alertmanager"); err != nil || missing != nil {
		testenv.Unable(t, "needs prometheus and prometheus-alertmanager (the Debian packages of those names)")
	}
	r := startReceiver(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "alertmanager.yml")
	text := fmt.Sprintf("route: {receiver: people, group_by: [...], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}\n"+
		"receivers: [{name: people, webhook_configs: [{url: %s/alertmanager, send_resolved: true}]}]\n", r.url)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	first, second := &alertmanager{address: address(t), config: config}, &alertmanager{address: address(t), config: config}
	first.start(t)
	c := startCollectorWith(t, fmt.Sprintf(`
exporters:
  canary_interval: 1s
  alertmanager: {enabled: true, urls: ["http://%s", "http://%s"], min_severity: high, refresh_interval: 1s, active_for: 1h, labels: {team: e2e}}
  webhooks: [{name: chat, url: %s/chat, template: slack, min_severity: high, retry: {initial: 100ms, max: 200ms, elapsed: 1s}}]
  prometheus: {address: "127.0.0.1:0"}
`, first.address, second.address, r.url))
	server := startPrometheusWith(t, prometheus, c.address, first.address)
	c.work(t, scenario{servicePort: serve(t, "hello\n"), refusedPort: refusing(t)})

	server.eventually(t, "the finding, from Alertmanager", func() error {
		return r.has("firing WatchglassFinding", "rule", "secret-read")
	})
	for label, value := range map[string]string{
		"severity": "high", "session": session, "agent": "codex", "team": "e2e",
		"runbook_url": "https://github.com/watchglass/watchglass/blob/main/docs/detectors/secret-read.md",
	} {
		if err := r.has("firing WatchglassFinding", label, value); err != nil {
			t.Error(err)
		}
	}
	server.eventually(t, "the finding, from the webhook", func() error { return r.document("[HIGH]", "secret-read", ".aws/credentials") })
	server.eventually(t, "the canary, from Alertmanager", func() error { return r.has("firing WatchglassCanary", "severity", "info") })
	server.eventually(t, "the canary, from the webhook", func() error { return r.document("Findings arrive") })
	second.start(t) // it was away
	server.eventually(t, "the finding, at the other Alertmanager", func() error { return second.has("rule", "secret-read") })

	r.mu.Lock()
	r.broken = true
	r.mu.Unlock()
	server.eventually(t, "the alert on the canary that is missing", func() error {
		return r.has("firing WatchglassCanaryMissing", "output", "webhook/chat")
	})
	if err := r.has("firing WatchglassCanaryMissing", "output", "alertmanager/http://"+first.address); err == nil {
		t.Error("a canary that arrived is missed")
	}
	c.enough()
	c.working.Wait()
	_ = c.command.Process.Kill()
	server.eventually(t, "the end of the finding, whose collector is gone", func() error {
		return r.has("resolved WatchglassFinding", "rule", "secret-read")
	})
}
