// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/collector/journal"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/otlp"
)

// journalDrainTime is for how long a stop waits for destinations to get what is in the journal already. What they do not get
// waits there for the next start.
const journalDrainTime = 5 * time.Second

// pumpEndTime is for how long destinations that were told to end are waited for.
const pumpEndTime = 5 * time.Second

type journalConfig struct {
	Enabled        bool `yaml:"enabled"`
	journal.Config `yaml:",inline"`
}

// store is the journal at work, and what moves it on to the destinations. Without a journal its methods do nothing.
type store struct {
	log     *slog.Logger
	journal *journal.Journal
	pumps   []*collector.Pump

	running sync.WaitGroup
	cancel  context.CancelFunc
}

// open opens the journal, if there is to be one.
func (s *store) open(cfg *journalConfig, instance string) error {
	if cfg == nil || !cfg.Enabled {
		return nil
	}
	var err error
	s.journal, err = journal.Open(cfg.Config, journal.Settings{Instance: instance, Logger: s.log})
	return err
}

// exporters is what feeds the journal, and the destinations: from it, or without one from memory.
func (s *store) exporters(destinations []collector.DestinationSettings, resource []event.Attribute) ([]collector.ExporterSettings, error) {
	var list []collector.ExporterSettings
	if s.journal != nil {
		list = append(list, collector.Record(s.journal, otlp.NewEncoder(resource)))
	}
	for _, d := range destinations {
		if s.journal == nil {
			list = append(list, collector.Forward(d, otlp.NewEncoder(resource)))
			continue
		}
		pump, err := collector.NewPump(s.journal, d, s.log)
		if err != nil {
			return nil, err
		}
		s.pumps = append(s.pumps, pump)
	}
	return list, nil
}

// start begins to deliver. What a pump fails with goes to failed.
func (s *store) start(failed chan<- error) {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	for _, p := range s.pumps {
		s.running.Go(func() {
			if err := p.Run(ctx); err != nil {
				select {
				case failed <- err:
				default: // somebody else was first
				}
			}
		})
	}
}

// drain waits until the destinations have what is in the journal, but not for long.
func (s *store) drain(ctx context.Context) {
	if s.journal == nil || len(s.pumps) == 0 || s.cancel == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, journalDrainTime)
	defer cancel()
	for s.waiting() > 0 {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			s.log.Warn("destinations get the rest after the next start", "events", s.waiting())
			return
		}
	}
}

func (s *store) waiting() uint64 {
	waiting := uint64(0)
	for _, c := range s.journal.Stats().Cursors {
		waiting = max(waiting, c.Lag)
	}
	return waiting
}

// close ends the deliveries and closes the journal.
func (s *store) close() error {
	if s.cancel != nil {
		s.cancel()
		ended := make(chan struct{})
		go func() {
			s.running.Wait()
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(pumpEndTime): // it reads the journal still, which the end of the process closes well enough
			return errors.New("a destination does not end; what it did not get comes after the next start")
		}
	}
	if s.journal == nil {
		return nil
	}
	err := s.journal.Close()
	s.journal = nil
	return err
}

// resize puts what of the section can be changed while it is at work in force, and remembers it.
func (s *store) resize(inForce, wanted *journalConfig) {
	if s.journal == nil || !wanted.Enabled {
		return
	}
	inForce.MaxBytes, inForce.PriorityBytes, inForce.SpansBytes, inForce.MaxAge = wanted.MaxBytes, wanted.PriorityBytes, wanted.SpansBytes, wanted.MaxAge
	s.journal.Resize(&wanted.Config)
}

// produced is told the numbers of events; nil without a journal.
func (s *store) produced() func(seq uint64) {
	if s.journal == nil {
		return nil
	}
	return s.journal.Produced
}

// losses is what was lost in the journal and behind it; nil without one.
func (s *store) losses() func() []event.LossCounter {
	if s.journal == nil {
		return nil
	}
	j := s.journal
	return func() []event.LossCounter {
		list := j.Losses()
		for _, p := range s.pumps {
			list = append(list, p.Losses()...)
		}
		return list
	}
}

// addStats completes the pipeline's account of itself.
func (s *store) addStats(stats *event.Stats) {
	if s.journal == nil {
		return
	}
	stats.Journal = s.journal.Stats()
	for _, p := range s.pumps {
		stats.Destinations = append(stats.Destinations, p.Stats())
		stats.Notifiers = append(stats.Notifiers, p.Notifiers()...)
	}
}

// validate says what is wrong with the section.
func (c *journalConfig) validate() error {
	if !c.Enabled {
		return nil
	}
	return prefixed("journal.", c.Validate())
}

// examineJournal says whether the journal has the room that it may take.
func examineJournal(cfg *journalConfig) checkFinding {
	f := checkFinding{Name: "journal", State: checkOK, Detail: cfg.Dir}
	if pid := journal.Writer(cfg.Dir); pid != 0 {
		f.Detail += fmt.Sprintf(", written by process %d", pid)
	}
	existing := cfg.Dir // or what of it exists: the rest is made
	var disk unix.Statfs_t
	for err := unix.Statfs(existing, &disk); err != nil; err = unix.Statfs(existing, &disk) {
		if !errors.Is(err, unix.ENOENT) || filepath.Dir(existing) == existing {
			f.State, f.Detail = checkMissing, fmt.Sprintf("%s: %v", existing, err)
			f.Remedy = "set journal.dir to a folder that can be made and written, or journal.enabled to false"
			return f
		}
		existing = filepath.Dir(existing)
	}
	if disk.Flags&unix.ST_RDONLY != 0 {
		f.State, f.Detail = checkMissing, f.Detail+", on a read-only file system"
		f.Remedy = "mount it writable, or set journal.dir"
		return f
	}
	used := journal.Size(cfg.Dir)
	free, wanted := int64(disk.Bavail)*disk.Bsize, max(0, cfg.MaxBytes+cfg.PriorityBytes+cfg.SpansBytes-used)
	f.Detail += fmt.Sprintf(", %s used, %s free", bytesText(used), bytesText(free))
	if free < wanted {
		f.State, f.Detail = checkDegraded, f.Detail+", and it may take "+bytesText(wanted)+" more"
		f.Remedy = "make room, or lower journal.max_bytes: on a full disk the oldest events go, and then the newest"
	}
	return f
}

func bytesText(n int64) string { return string(event.AppendBytes(nil, uint64(max(0, n)))) }
