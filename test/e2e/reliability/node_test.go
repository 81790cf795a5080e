// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
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

// node is a `watchglass collect` for one cgroup, over all of its starts.
type node struct {
	stage                   *stage
	config, journal, cgroup string
	command                 *exec.Cmd
	done                    chan error
	address                 string
	// produced is how many events, and spans how many spans, each start made, by its instance, as the journal's state
	// says after its end.
	produced, spans map[string]uint64
	// down is when no collector was watching.
	down []interval

	mu  sync.Mutex
	log strings.Builder
}

type interval struct{ from, to time.Time }

// nodeSettings is what of a node's configuration differs between scenarios.
type nodeSettings struct {
	// otlp is the YAML of exporters.otlp; exporters is more of that section, indented by two.
	otlp, exporters string
	// journal is what its section says besides the folder; "" is segments of 1 MiB.
	journal string
	// pins has the kernel go on to record while no collector runs; claims is what the section of that name says
	// besides.
	pins   bool
	claims string
}

// newNode prepares a node.
func newNode(t *testing.T, s *stage, settings nodeSettings) *node {
	t.Helper()
	n := &node{
		stage: s, config: filepath.Join(s.dir, "watchglass.yaml"), journal: filepath.Join(s.dir, "journal"),
		produced: map[string]uint64{}, spans: map[string]uint64{},
	}
	name := fmt.Sprintf("watchglass-reliability-%d-%d", os.Getpid(), time.Now().UnixNano())
	n.cgroup = filepath.Join(cgroupMount(t), name)
	if err := os.Mkdir(n.cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeCgroup(n.cgroup) })
	n.configure(t, settings)
	return n
}

// configure writes the configuration, for the next start.
func (n *node) configure(t *testing.T, settings nodeSettings) {
	t.Helper()
	if settings.journal == "" {
		settings.journal = "segment_bytes: 1048576"
	}
	text := fmt.Sprintf(`
sandboxes: {cgroups: [/%s]}
# Of watched files every open is told, of others a count.
policy: {files: {config: [%s/]}}
claims: {hooks: {enabled: false}%s}
control: {enabled: false}
# With pins the start after a kill makes again from the ring what was not written, under numbers of its own, so that no
# account by numbers of the collector's could show what is lost: TestCollectorKilledWithPins goes by the workload's.
kernel: {pins: {enabled: %v}}
journal: {dir: %s, %s}
exporters:
  canary_interval: 1s
  otlp: %s
  prometheus: {address: "127.0.0.1:0"}
%s`, filepath.Base(n.cgroup), filepath.Join(n.stage.dir, "work"), settings.claims, settings.pins, n.journal, settings.journal, settings.otlp, settings.exporters)
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start starts the collector, and waits until it watches.
func (n *node) start(t *testing.T) {
	t.Helper()
	n.command = exec.Command(n.stage.watchglass, "collect", "--config", n.config)
	n.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := n.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.command.Start(); err != nil {
		t.Fatal(err)
	}
	watching := make(chan string, 1)
	n.done = make(chan error, 1)
	command, done := n.command, n.done
	go func() {
		n.read(stderr, watching)
		done <- command.Wait()
	}()
	t.Cleanup(func() { _ = command.Process.Kill() })
	select {
	case n.address = <-watching:
	case err := <-n.done:
		t.Fatalf("the collector ended: %v\n%s", err, n.said())
	case <-time.After(time.Minute):
		t.Fatalf("the collector does not watch:\n%s", n.said())
	}
	if len(n.down) > 0 {
		n.down[len(n.down)-1].to = time.Now()
	}
}

func (n *node) read(stderr io.Reader, watching chan<- string) {
	serving := regexp.MustCompile(`msg="serving metrics" address=(\S+)`)
	address := ""
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		n.mu.Lock()
		n.log.WriteString(lines.Text() + "\n")
		n.mu.Unlock()
		if m := serving.FindStringSubmatch(lines.Text()); m != nil {
			address = m[1]
		}
		if strings.Contains(lines.Text(), "msg=watching ") {
			watching <- address
		}
	}
}

func (n *node) said() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.String()
}

// kill ends the collector without a word, and notes what it had made.
func (n *node) kill(t *testing.T) {
	t.Helper()
	n.down = append(n.down, interval{from: time.Now()})
	_ = n.command.Process.Kill()
	<-n.done
	n.note(t)
}

// stop ends the collector in its own time.
func (n *node) stop(t *testing.T) {
	t.Helper()
	if err := n.end(t); err != nil {
		t.Errorf("the collector: %v\n%s", err, n.said())
	}
}

// end is stop for a collector that has a reason to complain.
func (n *node) end(t *testing.T) error {
	t.Helper()
	_ = n.command.Process.Signal(syscall.SIGTERM)
	defer n.note(t)
	select {
	case err := <-n.done:
		return err
	case <-time.After(time.Minute):
		t.Fatalf("the collector does not end:\n%s", n.said())
		return nil
	}
}

// note reads from the journal's state (docs/journal.md) how many events the start made that has just ended.
func (n *node) note(t *testing.T) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(n.journal, "state"))
	if err != nil || len(page) < 4096 || string(page[:8]) != "WGSTATE1" {
		t.Fatalf("the journal's state: %v", err)
	}
	length := min(binary.LittleEndian.Uint64(page[80:]), 128)
	instance := string(page[88 : 88+length])
	n.produced[instance], n.spans[instance] = binary.LittleEndian.Uint64(page[32:]), binary.LittleEndian.Uint64(page[288:])
}

// metric is the sum of a metric's series that have all of the labels, written as in destination="otlp", and whether
// there is one.
func (n *node) metric(name string, labels ...string) (sum float64, ok bool) {
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get("http://" + n.address + "/metrics")
	if err != nil {
		return 0, false
	}
	defer func() { _ = answer.Body.Close() }()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		series, value, _ := strings.Cut(lines.Text(), " ")
		missing := slices.ContainsFunc(labels, func(label string) bool { return !strings.Contains(series, label) })
		if base, _, _ := strings.Cut(series, "{"); base == name && !missing {
			v, _ := strconv.ParseFloat(value, 64)
			sum, ok = sum+v, true
		}
	}
	return sum, ok
}

// drained waits until the destination has everything that is in the journal.
func (n *node) drained(t *testing.T, patience time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	for time.Since(start) < patience {
		// Less than what is made while one asks.
		if lag, ok := n.metric("watchglass_destination_lag_events"); ok && lag < 50 {
			return time.Since(start)
		}
		time.Sleep(100 * time.Millisecond)
	}
	lag, _ := n.metric("watchglass_destination_lag_events")
	t.Errorf("after %v %v events wait for the destination still:\n%s", patience, lag, n.said())
	return patience
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
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

func removeCgroup(path string) {
	_ = os.WriteFile(filepath.Join(path, "cgroup.kill"), []byte("1"), 0)
	for range 100 {
		if os.Remove(path) == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}
