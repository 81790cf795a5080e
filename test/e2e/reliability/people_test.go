// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/watchglass/watchglass/internal/testenv"
)

// people is who is told of findings: by a webhook, and by a real Alertmanager, which has a webhook of its own.
type people struct {
	url, address, config string
	binary               string
	command              *exec.Cmd

	mu       sync.Mutex
	requests int
	// documents is how often the webhook was told what of a log.record.uid; alerts is the findings' ids of which
	// Alertmanager told.
	documents map[string]int
	alerts    map[string]bool
	// live is those that were active at the end.
	live map[string]bool
}

// told is how many findings people were told of.
type told struct {
	// findings is how many findings there are in how many events; again how many documents came once more.
	findings, events, again int
}

func (r *told) rows() string {
	return fmt.Sprintf("| findings, and events that tell of them | %d, %d |\n| of them told by the webhook, and by Alertmanager | %d, %d |\n"+
		"| told again by the webhook | %d |\n", r.findings, r.events, r.events, r.findings, r.again)
}

func newPeople(t *testing.T) *people {
	t.Helper()
	testenv.E2E(t)
	p := &people{address: freeAddress(t), documents: map[string]int{}, alerts: map[string]bool{}}
	var err error
	if p.binary, err = exec.LookPath("prometheus-alertmanager"); err != nil {
		testenv.Unable(t, "needs prometheus-alertmanager (the Debian package of that name)")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.url = "http://" + listener.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /alertmanager", p.alerted)
	mux.HandleFunc("POST /webhook", p.posted)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	p.config = filepath.Join(t.TempDir(), "alertmanager.yml")
	text := fmt.Sprintf("route: {receiver: people, group_by: [...], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}\n"+
		"receivers: [{name: people, webhook_configs: [{url: %s/alertmanager, send_resolved: false}]}]\n", p.url)
	if err := os.WriteFile(p.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// exporters is what the node's configuration says of them.
func (p *people) exporters() string {
	return fmt.Sprintf(`  alertmanager: {enabled: true, urls: ["http://%s"], min_severity: info, refresh_interval: 1s, active_for: 1h, max_alerts: 4096}
  webhooks: [{name: people, url: %s/webhook, min_severity: info, updates: true, max_per_minute: 1000000, retry: {initial: 50ms, max: 200ms}}]
`, p.address, p.url)
}

func (p *people) alerted(_ http.ResponseWriter, r *http.Request) {
	var notification struct {
		Alerts []struct{ Labels map[string]string }
	}
	if json.NewDecoder(r.Body).Decode(&notification) != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range notification.Alerts {
		p.alerts[a.Labels["finding"]] = true
	}
}

// posted takes a document, but not every fourth.
func (p *people) posted(w http.ResponseWriter, r *http.Request) {
	var document struct{ UID string }
	err := json.NewDecoder(r.Body).Decode(&document)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests++
	if err != nil || p.requests%4 == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	p.documents[document.UID]++
}

func (p *people) start(t *testing.T) {
	t.Helper()
	p.command = exec.Command(p.binary, "--config.file="+p.config, "--storage.path="+t.TempDir(),
		"--web.listen-address="+p.address, "--cluster.listen-address=", "--log.level=warn")
	p.command.Stderr = os.Stderr
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
}

func (p *people) kill() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

// active is the ids of the findings that are active at Alertmanager.
func (p *people) active(t *testing.T) map[string]bool {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get("http://" + p.address + "/api/v2/alerts?active=true")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	var list []struct{ Labels map[string]string }
	if err := json.NewDecoder(answer.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, a := range list {
		ids[a.Labels["finding"]] = true
	}
	return ids
}

// await waits until nothing is left to be told, and notes what Alertmanager knows then: when the collector is gone its
// alerts end.
func (p *people) await(t *testing.T, n *node) {
	t.Helper()
	left := func() float64 {
		pending, ok := n.metric("watchglass_notifications_pending")
		webhook, ok2 := n.metric("watchglass_destination_lag_events", `destination="webhook.people"`)
		alertmanager, ok3 := n.metric("watchglass_destination_lag_events", `destination="alertmanager"`)
		if !ok || !ok2 || !ok3 {
			return math.Inf(1)
		}
		return pending + webhook + alertmanager
	}
	// Canaries and measurements may be on their way.
	for deadline := time.Now().Add(patience); left() > 10; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%v findings are still to be told:\n%s", left(), n.said())
			break
		}
	}
	time.Sleep(3 * time.Second) // Alertmanager has intervals of its own until it tells
	p.live = p.active(t)
}

// verify holds what people were told against the findings that arrived at the backend. The Alertmanager forgot all when
// it was killed: that it knows of each again proves that the collector tells on what a start of before had told.
func (p *people) verify(t *testing.T, a *arrivals) *told {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &told{events: len(a.found)}
	ids := map[string]bool{}
	for uid, id := range a.found {
		ids[id] = true
		if p.documents[uid] == 0 {
			t.Errorf("the webhook was not told of event %s of finding %s", uid, id)
		}
		r.again += max(0, p.documents[uid]-1)
	}
	r.findings = len(ids)
	for id := range ids {
		if !p.alerts[id] {
			t.Errorf("Alertmanager told nobody of finding %s", id)
		}
		if !p.live[id] {
			t.Errorf("Alertmanager knows no more of finding %s", id)
		}
	}
	if len(ids) == 0 {
		t.Error("nothing was found: the scenario tests nothing")
	}
	return r
}
