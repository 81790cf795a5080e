// SPDX-License-Identifier: Apache-2.0

package exporters

import (
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/watchglass/watchglass/event"
)

// DefaultMaxSandboxes is how many sandboxes have series of their own where the configuration does not say.
const DefaultMaxSandboxes = 200

// maxSandboxName bounds the label that is a sandbox's name, in bytes.
const maxSandboxName = 128

// SandboxMetrics is the instruments of single sandboxes. They have a registry of their own, and are never
// pushed: their series come and go with the sandboxes, which is what a time series database bears only
// as long as somebody wants it. There is a series as long as the sandbox is watched, and for a bounded
// number of sandboxes: those watched longest. All others are one sandbox, Other.
type SandboxMetrics struct {
	registry    *prometheus.Registry
	instruments []Instrument
	live        func() []event.SandboxStats
	max         int

	listed, unlisted, info *prometheus.Desc
	measures               []measure
	all                    []*prometheus.Desc

	mu sync.Mutex
	// others is what the sandboxes without series of their own had of each measure that only grows, last
	// when they were last seen without one, by their ids.
	others []float64
	last   map[string][]float64
}

// measure is one number of a sandbox.
type measure struct {
	desc  *prometheus.Desc
	grows bool
	value func(*event.SandboxStats) (float64, bool)
}

// NewSandboxMetrics makes the instruments. live is asked for the sandboxes at each scrape, from any
// goroutine; at most limit of them get series of their own, 0 means DefaultMaxSandboxes.
func NewSandboxMetrics(live func() []event.SandboxStats, limit int) *SandboxMetrics {
	if limit == 0 {
		limit = DefaultMaxSandboxes
	}
	m := &SandboxMetrics{registry: prometheus.NewRegistry(), live: live, max: limit, last: map[string][]float64{}}
	m.listed = m.desc("gauge", "watchglass_sandboxes_listed", "Sandboxes that have series of their own.")
	m.unlisted = m.desc("gauge", "watchglass_sandboxes_unlisted",
		"Sandboxes for whose series there is no room: together they are the sandbox _other.")
	m.info = m.desc("gauge", "watchglass_sandbox_info",
		"Always 1; the labels say what the sandbox is.", "sandbox", "name", "runtime")
	m.addMeasures()
	m.others = make([]float64, len(m.measures))
	m.registry.MustRegister(m)
	return m
}

// Registry is where the instruments are registered.
func (m *SandboxMetrics) Registry() *prometheus.Registry { return m.registry }

// Instruments lists every instrument, in the order in which they are made.
func (m *SandboxMetrics) Instruments() []Instrument { return slices.Clone(m.instruments) }

func (m *SandboxMetrics) desc(kind, name, help string, labels ...string) *prometheus.Desc {
	m.instruments = append(m.instruments, Instrument{Name: name, Type: kind, Help: help, Labels: labels})
	d := prometheus.NewDesc(name, help, labels, nil)
	m.all = append(m.all, d)
	return d
}

// counter and gauge are the only way to a measure, so that Instruments is complete.
func (m *SandboxMetrics) counter(name, help string, value func(*event.SandboxStats) (float64, bool)) {
	m.measures = append(m.measures, measure{desc: m.desc("counter", name, help, "sandbox"), grows: true, value: value})
}

func (m *SandboxMetrics) gauge(name, help string, value func(*event.SandboxStats) (float64, bool)) {
	m.measures = append(m.measures, measure{desc: m.desc("gauge", name, help, "sandbox"), value: value})
}

func (m *SandboxMetrics) addMeasures() {
	count := func(n func(*event.SandboxStats) uint64) func(*event.SandboxStats) (float64, bool) {
		return func(s *event.SandboxStats) (float64, bool) { return float64(n(s)), true }
	}
	m.gauge("watchglass_sandbox_start_time_seconds", "When watching the sandbox began, in seconds since 1970; of _other, of the latest.",
		func(s *event.SandboxStats) (float64, bool) {
			return float64(s.Sandbox.Started.UnixMilli()) / 1000, !s.Sandbox.Started.IsZero()
		})
	m.counter("watchglass_sandbox_events_total", "Events of the sandbox that were published.",
		count(func(s *event.SandboxStats) uint64 { return s.Events }))
	m.counter("watchglass_sandbox_findings_total", "Findings in the sandbox, without their updates.",
		count(func(s *event.SandboxStats) uint64 { return s.Findings }))
	m.counter("watchglass_sandbox_events_lost_total", "Events of the sandbox that were lost, at whatever stage.",
		count(func(s *event.SandboxStats) uint64 { return s.Lost }))
	m.counter("watchglass_sandbox_processes_seen_total", "Processes of the sandbox that were seen.",
		count(func(s *event.SandboxStats) uint64 { return s.Processes }))
	m.addProcessorMeasures()
	m.addMemoryMeasures()
	m.addOtherMeasures()
}

func (m *SandboxMetrics) addProcessorMeasures() {
	cpu := func(d func(*event.CPUUsage) time.Duration) func(*event.SandboxStats) (float64, bool) {
		return func(s *event.SandboxStats) (float64, bool) {
			if s.Usage == nil || s.Usage.CPU == nil {
				return 0, false
			}
			return d(s.Usage.CPU).Seconds(), true
		}
	}
	throttle := func(n func(*event.Throttling) float64) func(*event.SandboxStats) (float64, bool) {
		return func(s *event.SandboxStats) (float64, bool) {
			if s.Usage == nil || s.Usage.CPU == nil || s.Usage.CPU.Throttle == nil {
				return 0, false
			}
			return n(s.Usage.CPU.Throttle), true
		}
	}
	m.counter("watchglass_sandbox_cpu_user_seconds_total", "Processor time in user mode.",
		cpu(func(c *event.CPUUsage) time.Duration { return c.User }))
	m.counter("watchglass_sandbox_cpu_system_seconds_total", "Processor time in the kernel.",
		cpu(func(c *event.CPUUsage) time.Duration { return c.System }))
	m.counter("watchglass_sandbox_cpu_seconds_total", "Processor time.",
		cpu(func(c *event.CPUUsage) time.Duration { return c.Total }))
	m.counter("watchglass_sandbox_cpu_throttled_seconds_total", "Time for which processes had to wait because the quota was used up.",
		throttle(func(t *event.Throttling) float64 { return t.Time.Seconds() }))
	m.counter("watchglass_sandbox_cpu_periods_total", "Periods of the quota that passed.",
		throttle(func(t *event.Throttling) float64 { return float64(t.Periods) }))
	m.counter("watchglass_sandbox_cpu_throttled_periods_total", "Periods in which the quota was used up.",
		throttle(func(t *event.Throttling) float64 { return float64(t.Throttled) }))
}

func (m *SandboxMetrics) addMemoryMeasures() {
	memory := func(n func(*event.MemoryUsage) uint64) func(*event.SandboxStats) (float64, bool) {
		return func(s *event.SandboxStats) (float64, bool) {
			if s.Usage == nil || s.Usage.Memory == nil {
				return 0, false
			}
			return float64(n(s.Usage.Memory)), true
		}
	}
	positive := func(n func(*event.MemoryUsage) uint64) func(*event.SandboxStats) (float64, bool) {
		value := memory(n)
		return func(s *event.SandboxStats) (float64, bool) {
			f, ok := value(s)
			return f, ok && f > 0
		}
	}
	m.gauge("watchglass_sandbox_memory_usage_bytes", "Memory in use, the page cache of its files included.",
		memory(func(u *event.MemoryUsage) uint64 { return u.Current }))
	m.gauge("watchglass_sandbox_memory_peak_bytes", "The most memory that was in use.",
		positive(func(u *event.MemoryUsage) uint64 { return u.Peak }))
	m.gauge("watchglass_sandbox_memory_limit_bytes", "How much memory may be in use; absent when there is no limit.",
		positive(func(u *event.MemoryUsage) uint64 { return u.Limit }))
	m.gauge("watchglass_sandbox_memory_anonymous_bytes", "Memory in use that belongs to no file.",
		memory(func(u *event.MemoryUsage) uint64 { return u.Anonymous }))
	m.gauge("watchglass_sandbox_memory_file_bytes", "Memory in use that is the page cache.",
		memory(func(u *event.MemoryUsage) uint64 { return u.File }))
	m.gauge("watchglass_sandbox_memory_swap_bytes", "What is swapped out.",
		memory(func(u *event.MemoryUsage) uint64 { return u.Swap }))
	m.counter("watchglass_sandbox_memory_major_faults_total", "Accesses to memory that had to wait for a disk.",
		memory(func(u *event.MemoryUsage) uint64 { return u.MajorFaults }))
	m.counter("watchglass_sandbox_oom_kills_total", "Processes that the kernel killed for lack of memory.",
		memory(func(u *event.MemoryUsage) uint64 { return u.OOMKills }))
}

func (m *SandboxMetrics) addOtherMeasures() {
	io := func(n func(*event.IOUsage) uint64) func(*event.SandboxStats) (float64, bool) {
		return func(s *event.SandboxStats) (float64, bool) {
			if s.Usage == nil || s.Usage.IO == nil {
				return 0, false
			}
			return float64(n(s.Usage.IO)), true
		}
	}
	pressure := func(p func(*event.Pressures) *event.Pressure, full bool) func(*event.SandboxStats) (float64, bool) {
		return func(s *event.SandboxStats) (float64, bool) {
			if s.Usage == nil || p(&s.Usage.Pressure) == nil {
				return 0, false
			}
			if full {
				return p(&s.Usage.Pressure).Full.Seconds(), true
			}
			return p(&s.Usage.Pressure).Some.Seconds(), true
		}
	}
	m.counter("watchglass_sandbox_io_read_bytes_total", "Bytes read from block devices.",
		io(func(u *event.IOUsage) uint64 { return u.ReadBytes }))
	m.counter("watchglass_sandbox_io_written_bytes_total", "Bytes written to block devices.",
		io(func(u *event.IOUsage) uint64 { return u.WrittenBytes }))
	m.counter("watchglass_sandbox_io_reads_total", "Read operations of block devices.",
		io(func(u *event.IOUsage) uint64 { return u.Reads }))
	m.counter("watchglass_sandbox_io_writes_total", "Write operations of block devices.",
		io(func(u *event.IOUsage) uint64 { return u.Writes }))
	m.gauge("watchglass_sandbox_tasks", "Processes and threads that are alive.",
		func(s *event.SandboxStats) (float64, bool) {
			if s.Usage == nil || s.Usage.Tasks == nil {
				return 0, false
			}
			return float64(s.Usage.Tasks.Current), true
		})
	m.gauge("watchglass_sandbox_tasks_limit", "How many processes and threads there may be; absent when there is no limit.",
		func(s *event.SandboxStats) (float64, bool) {
			if s.Usage == nil || s.Usage.Tasks == nil {
				return 0, false
			}
			return float64(s.Usage.Tasks.Limit), s.Usage.Tasks.Limit > 0
		})
	for _, resource := range []struct {
		name, what string
		of         func(*event.Pressures) *event.Pressure
	}{
		{"cpu", "a processor", func(p *event.Pressures) *event.Pressure { return p.CPU }},
		{"memory", "memory", func(p *event.Pressures) *event.Pressure { return p.Memory }},
		{"io", "block devices", func(p *event.Pressures) *event.Pressure { return p.IO }},
	} {
		m.counter("watchglass_sandbox_pressure_"+resource.name+"_waiting_seconds_total",
			"Time for which some tasks stood still for lack of "+resource.what+".", pressure(resource.of, false))
		m.counter("watchglass_sandbox_pressure_"+resource.name+"_stalled_seconds_total",
			"Time for which all tasks stood still for lack of "+resource.what+".", pressure(resource.of, true))
	}
}

// Describe implements prometheus.Collector.
func (m *SandboxMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range m.all {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *SandboxMetrics) Collect(ch chan<- prometheus.Metric) {
	list := m.live()
	listed := list[:min(len(list), m.max)]
	for i := range listed {
		s := &listed[i]
		ch <- prometheus.MustNewConstMetric(m.info, prometheus.GaugeValue, 1,
			s.Sandbox.ID, sandboxName(s.Sandbox.Name), sandboxName(s.Sandbox.Runtime))
		for _, x := range m.measures {
			if value, ok := x.value(s); ok {
				ch <- x.metric(value, s.Sandbox.ID)
			}
		}
	}
	m.collectOthers(ch, list[len(listed):])
	ch <- prometheus.MustNewConstMetric(m.listed, prometheus.GaugeValue, float64(len(listed)))
	ch <- prometheus.MustNewConstMetric(m.unlisted, prometheus.GaugeValue, float64(len(list)-len(listed)))
}

func (x *measure) metric(value float64, sandbox string) prometheus.Metric {
	kind := prometheus.GaugeValue
	if x.grows {
		kind = prometheus.CounterValue
	}
	return prometheus.MustNewConstMetric(x.desc, kind, value, sandbox)
}

// collectOthers shows the sandboxes without series of their own as one. What grows is summed by its
// growth, so that the sum does not shrink with each sandbox that goes.
func (m *SandboxMetrics) collectOthers(ch chan<- prometheus.Metric, list []event.SandboxStats) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sums, present := make([]float64, len(m.measures)), make([]bool, len(m.measures))
	last := make(map[string][]float64, len(list))
	for i := range list {
		s := &list[i]
		before, now := m.last[s.Sandbox.ID], make([]float64, len(m.measures))
		last[s.Sandbox.ID] = now
		for j, x := range m.measures {
			value, ok := x.value(s)
			now[j], present[j] = value, present[j] || ok
			switch {
			case x.desc == m.measures[0].desc:
				sums[j] = max(sums[j], value)
			case !x.grows:
				sums[j] += value
			case before != nil && value >= before[j]:
				m.others[j] += value - before[j]
			default:
				m.others[j] += value
			}
		}
	}
	m.last = last
	for j, x := range m.measures {
		if x.grows && (present[j] || m.others[j] > 0) {
			ch <- x.metric(m.others[j], Other)
		} else if present[j] {
			ch <- x.metric(sums[j], Other)
		}
	}
}

// sandboxName is a name as a label bears it.
func sandboxName(s string) string {
	if !utf8.ValidString(s) {
		return "unknown"
	}
	if len(s) <= maxSandboxName {
		return s
	}
	cut := maxSandboxName
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
