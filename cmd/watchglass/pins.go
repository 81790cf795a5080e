// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/event"
)

// pinsConfig is where programs and maps live on when the collector does not.
type pinsConfig struct {
	Enabled bool   `yaml:"enabled"`
	Dir     string `yaml:"dir"`
	Mount   bool   `yaml:"mount"`
	// KeepOnStop leaves everything at work after an orderly stop too.
	KeepOnStop bool `yaml:"keep_on_stop"`
}

func (c *pinsConfig) validate() error {
	if c.Enabled && (!filepath.IsAbs(c.Dir) || strings.Contains(c.Dir, ".")) {
		return fmt.Errorf("kernel.pins.dir: %q is no absolute path without dots, which a bpffs does not allow", c.Dir)
	}
	return nil
}

// pins is the set of pins that belongs to a journal: its name comes of the journal's folder, since what was read of
// the ring is known by the journal. Nil without either.
func (c *config) pins() *bpf.Pins {
	if !c.Kernel.Pins.Enabled || !c.Journal.Enabled {
		return nil
	}
	folder, err := filepath.Abs(c.Journal.Dir)
	if err != nil {
		folder = c.Journal.Dir
	}
	name := fmt.Sprintf("%x", sha256.Sum256([]byte(folder)))[:16]
	return &bpf.Pins{
		Dir: filepath.Join(c.Kernel.Pins.Dir, name), Mount: c.Kernel.Pins.Mount, Keep: c.Kernel.Pins.KeepOnStop, Version: version(),
	}
}

// unload removes the set of pins that a configuration's collector left.
func unload(cfg *config) error {
	pins := cfg.pins()
	if pins == nil {
		return errors.New("the configuration pins nothing: kernel.pins.enabled or journal.enabled is false")
	}
	if err := bpf.Unpin(pins.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// examinePins says whether anything outlives the collector, and which sets of pins nobody reads.
func examinePins(cfg *config) []checkFinding {
	f := checkFinding{Name: "pins", State: checkOK}
	pins := cfg.pins()
	switch {
	case pins == nil:
		f.Detail = "off: what happens while no collector runs is not seen"
		return []checkFinding{f}
	case bpf.CheckPins(pins) != nil:
		f.State, f.Detail = checkDegraded, bpf.CheckPins(pins).Error()+": what happens while no collector runs is not seen"
		f.Remedy = "mount -t bpf bpf /sys/fs/bpf, on the host; in a container, mount the host's there"
	default:
		f.Detail = "at " + pins.Dir
	}
	findings := []checkFinding{f}
	sets, err := bpf.PinSets(cfg.Kernel.Pins.Dir)
	if err != nil {
		return findings
	}
	for _, s := range sets {
		f := checkFinding{Name: "pins", State: checkOK, Detail: fmt.Sprintf("%s, read by process %d", s.Dir, s.PID)}
		if !s.Held {
			f.State = checkDegraded
			f.Detail = fmt.Sprintf("%s, which nobody reads: left by process %d, version %q, of %s; its programs still run", s.Dir, s.PID, s.Version, s.Since.Format(time.RFC3339))
			f.Remedy = "start the collector that left it, which goes on from there, or run `watchglass collect --unload` with its configuration, or rm -r " + s.Dir
		}
		findings = append(findings, f)
	}
	return findings
}

// holdRecords has the ring keep records until they are in the journal, where pins make that of use.
func (w *watch) holdRecords(kernel *bpf.Config, pins *bpf.Pins) *collector.Hold {
	if pins == nil || w.store.journal == nil {
		return nil
	}
	kernel.Pins = pins
	kernel.Hold = func(ring, read, end uint64) uint64 { return w.pipeline.Held(ring, read, end) }
	return &collector.Hold{Journal: w.store.journal, Most: kernel.HoldBytes()}
}

// resume goes on with the sandboxes that the collector before watched, so that the first of its records that is read finds
// its sandbox.
func (w *watch) resume() {
	remembered := w.tracer.Remembered()
	resumed := map[string]*event.Sandbox{}
	for _, r := range remembered {
		s := w.registry.Adopt(r.ID, r.Path)
		if s == nil {
			if err := w.tracer.Untrack(r.ID); err != nil {
				w.log.Warn("a sandbox of the collector before may go on to be watched", "cgroup", r.Path, "error", err)
			}
			continue
		}
		w.pipeline.Know(s)
		resumed[s.ID] = s
	}
	if len(resumed) > 0 && w.store.journal != nil {
		w.recall(resumed)
	}
}

// sweep ends the sandboxes that were over before this collector came, and whose end no record told, once all
// that was in the ring is read.
func (w *watch) sweep(done <-chan struct{}) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for !w.tracer.CaughtUp() {
		select {
		case <-ticker.C:
		case <-done:
			return
		}
	}
	w.registry.Sweep()
}
