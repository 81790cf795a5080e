// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/watchglass/watchglass/collector/sandbox"
)

// state is what watches a workload while it runs.
type state string

const (
	// stateNone is no collector at all; stateOutside one that watches another sandbox, stateInside the same one, in the
	// sandbox that it watches.
	stateNone    state = "none"
	stateOutside state = "outside"
	stateInside  state = "inside"
)

// slowdown is how long one workload took in each state, in the order of the repetitions.
type slowdown struct {
	workload workload
	times    map[state][]duration
	// seen is the events of the last repetition inside, lost those of it that were lost, by kind and reason.
	seen float64
	lost map[string]float64
}

// duration is how long a workload took: by the clock on the wall, and by the processors' (its children's
// included, the collector's not), which a busy machine disturbs less.
type duration struct{ wall, processor time.Duration }

// workloadRun is one run of a workload: in which state, under which collector, and whether its events are counted.
type workloadRun struct {
	at        state
	result    *slowdown
	collector *collector
	counted   bool
}

// footprint is what the collector takes: memory in KiB, at rest and at most, after all storms; and at rest of a processor's time, as
// a fraction.
type footprint struct {
	idle, peak int64
	rest       float64
}

// How long the collector is let settle, and then watched at rest.
const settleTime, restTime = 5 * time.Second, 20 * time.Second

// session is one measurement of slowdowns.
type session struct {
	binary, dir string
	options     *options
	// watched and unwatched are the cgroups that workloads run in.
	watched, unwatched string
}

// measure runs every workload in every state by turns.
func (s *session) measure(ctx context.Context, r *results) error {
	mount, err := sandbox.FindMount()
	if err != nil {
		return err
	}
	s.watched = filepath.Join(mount.Dir, "watchglass-bench-in-"+strconv.Itoa(os.Getpid()))
	s.unwatched = filepath.Join(mount.Dir, "watchglass-bench-out-"+strconv.Itoa(os.Getpid()))
	for _, dir := range []string{s.watched, s.unwatched} {
		if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // a cgroup
			return fmt.Errorf("making a cgroup: %w", err)
		}
		defer os.Remove(dir) //nolint:errcheck // empty by then
	}
	for _, w := range workloads() {
		r.slowdowns = append(r.slowdowns, slowdown{workload: w, times: map[state][]duration{}})
		// Once for nobody: what is read first is not in the page cache.
		if _, err := s.timeWorkload(ctx, &w, s.unwatched); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	for i := range s.options.repetitions {
		progress(fmt.Sprintf("measuring the workloads: repetition %d of %d", i+1, s.options.repetitions))
		// The order changes, so that what happens meanwhile on the machine meets each state alike.
		for _, watching := range []bool{i%2 == 0, i%2 == 1} {
			if err := s.repeat(ctx, i, watching, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// repeat runs every workload once more: without a collector, or in and out of the sandbox that one watches.
func (s *session) repeat(ctx context.Context, repetition int, watching bool, r *results) (err error) {
	var c *collector
	if watching {
		if c, err = s.startCollector(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.stop()) }()
		if r.footprint.idle == 0 {
			time.Sleep(settleTime)
			before := c.processorTime()
			time.Sleep(restTime)
			r.footprint.rest = (c.processorTime() - before).Seconds() / restTime.Seconds()
			r.footprint.idle = c.memory("VmRSS")
		}
	}
	for j := range r.slowdowns {
		states := []state{stateNone}
		switch {
		case watching && (repetition+j)%2 == 0:
			states = []state{stateOutside, stateInside}
		case watching:
			states = []state{stateInside, stateOutside}
		}
		for _, at := range states {
			// Waiting for what is under way takes longer than most workloads: once is enough.
			counted := at == stateInside && repetition == s.options.repetitions-1
			run := workloadRun{at: at, result: &r.slowdowns[j], collector: c, counted: counted}
			if err := s.once(ctx, &run); err != nil {
				return fmt.Errorf("%s, collector %s: %w", r.slowdowns[j].workload.name, at, err)
			}
		}
	}
	if watching {
		r.footprint.peak = max(r.footprint.peak, c.memory("VmHWM"))
	}
	return nil
}

// once runs a workload once.
func (s *session) once(ctx context.Context, run *workloadRun) error {
	cgroup := s.unwatched
	if run.at == stateInside {
		cgroup = s.watched
	}
	var seen float64
	var lost map[string]float64
	if run.counted {
		seen, lost = run.collector.account()
	}
	took, err := s.timeWorkload(ctx, &run.result.workload, cgroup)
	if err != nil {
		return err
	}
	if run.counted {
		run.result.seen, run.result.lost = run.collector.account()
		run.result.seen -= seen
		for what, n := range lost {
			run.result.lost[what] -= n
		}
	}
	run.result.times[run.at] = append(run.result.times[run.at], took)
	return nil
}

// timeWorkload runs the workload in a cgroup and says how long it took.
func (s *session) timeWorkload(ctx context.Context, w *workload, cgroup string) (duration, error) {
	dir, err := os.MkdirTemp(s.dir, "work-")
	if err != nil {
		return duration{}, fmt.Errorf("making a directory: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // scratch
	group, err := os.Open(cgroup)
	if err != nil {
		return duration{}, fmt.Errorf("opening the cgroup: %w", err)
	}
	defer group.Close() //nolint:errcheck // only read
	cmd := w.command(ctx, dir, s.options.quick)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return duration{}, fmt.Errorf("running it: %w\n%s", err, out)
	}
	used := cmd.ProcessState
	return duration{wall: time.Since(began), processor: used.UserTime() + used.SystemTime()}, nil
}

// collector is a `watchglass collect` that writes every event to a file.
type collector struct {
	cmd     *exec.Cmd
	log     *bytes.Buffer
	address string
}

func (s *session) startCollector(ctx context.Context) (*collector, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`log: {level: warn}
sandboxes: {cgroups: ["/%s"]}
journal: {dir: %q}
exporters:
  json: {enabled: true, path: %q, append: false}
  prometheus: {enabled: true, address: %q}
`, filepath.Base(s.watched), filepath.Join(s.dir, "journal"), filepath.Join(s.dir, "events.json"), address)
	file := filepath.Join(s.dir, "config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	c := &collector{log: &bytes.Buffer{}, address: address}
	c.cmd = exec.CommandContext(ctx, s.binary, "collect", "--config", file) //nolint:gosec // just built
	c.cmd.Stderr = c.log
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the collector: %w", err)
	}
	for range 200 {
		if _, err := c.get("/readyz"); err == nil {
			time.Sleep(200 * time.Millisecond)
			return c, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, errors.Join(errors.New("the collector does not become ready"), c.stop())
}

func freeAddress(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer listener.Close() //nolint:errcheck // only to learn the port
	return listener.Addr().String(), nil
}

func (c *collector) get(path string) (string, error) {
	response, err := http.Get("http://" + c.address + path) //nolint:noctx // a moment, on the loopback
	if err != nil {
		return "", err
	}
	defer response.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return string(body), err
}

// account is how many events the collector published, and how many were lost by kind and reason, by its own metrics.
func (c *collector) account() (seen float64, lost map[string]float64) {
	time.Sleep(time.Second) // what is under way arrives
	lost = map[string]float64{}
	text, err := c.get("/metrics")
	if err != nil {
		return 0, lost
	}
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, "{")
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			continue
		}
		value, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			continue
		}
		switch name {
		case "watchglass_events_total":
			seen += value
		case "watchglass_events_lost_total":
			lost[fmt.Sprintf("%s (%s)", label(rest, "lost"), label(rest, "reason"))] += value
		}
	}
	return seen, lost
}

// label is the value of one of a metric's labels, of which none holds a quote.
func label(labels, name string) string {
	_, rest, _ := strings.Cut(labels, name+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// memory reads one of the collector's lines of /proc/PID/status, in KiB.
func (c *collector) memory(name string) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, name+":"); found {
			var size int64
			if _, err := fmt.Sscan(value, &size); err == nil {
				return size
			}
		}
	}
	return 0
}

// processorTime is how long the collector's threads have run until now: by the scheduler, whose clock is finer than that of
// /proc/PID/stat. 0 where that cannot be read.
func (c *collector) processorTime() (total time.Duration) {
	paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", c.cmd.Process.Pid)) // a bad pattern is its only error
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		var ran time.Duration
		if _, err := fmt.Sscan(string(text), &ran); err == nil {
			total += ran
		}
	}
	return total
}

func (c *collector) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping the collector: %w\n%s", err, c.log)
	}
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("the collector ended badly: %w\n%s", err, c.log)
	}
	return nil
}

// ratios are the times of a state by those of the same repetition without a collector, smallest first.
func (s *slowdown) ratios(at state, by func(duration) time.Duration) []float64 {
	var ratios []float64
	for i, took := range s.times[at] {
		ratios = append(ratios, float64(by(took))/float64(by(s.times[stateNone][i])))
	}
	slices.Sort(ratios)
	return ratios
}
