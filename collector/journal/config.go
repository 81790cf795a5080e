// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"time"
)

// SyncPolicy says when what is written is forced to the disk. Until then a crash of the machine can take
// it; a crash of the program cannot.
type SyncPolicy string

// The policies.
const (
	// SyncAlways is after every group of events.
	SyncAlways SyncPolicy = "always"
	// SyncInterval is at most once in Config.SyncInterval.
	SyncInterval SyncPolicy = "interval"
	// SyncNever leaves it to the operating system.
	SyncNever SyncPolicy = "never"
)

// Config is the journal's configuration. The zero value is not valid, see DefaultConfig.
type Config struct {
	// Dir is the folder. It is made if it is not there.
	Dir string `yaml:"dir"`
	// MaxBytes, PriorityBytes and SpansBytes bound the lanes on the disk.
	MaxBytes      int64 `yaml:"max_bytes"`
	PriorityBytes int64 `yaml:"priority_bytes"`
	SpansBytes    int64 `yaml:"spans_bytes"`
	// MaxAge is after how long events are removed although there is room; 0 means never.
	MaxAge time.Duration `yaml:"max_age"`
	// SegmentBytes is how large a file grows before the next is begun: what is evicted at once.
	SegmentBytes int64 `yaml:"segment_bytes"`
	// MemoryBytes bounds the events that are held while the disk takes none. A quarter of it is the priority lane's,
	// an eighth that of spans.
	MemoryBytes int64 `yaml:"memory_bytes"`
	// Sync and SyncInterval say when what is written is forced to the disk.
	Sync         SyncPolicy    `yaml:"sync"`
	SyncInterval time.Duration `yaml:"sync_interval"`
	// CheckpointInterval is how often the chain is signed while events come.
	CheckpointInterval time.Duration `yaml:"checkpoint_interval"`
	// KeyFile is the private key that signs; "" means the file "key" in Dir. It is made if it is not there.
	KeyFile string `yaml:"key_file"`
	// QuarantineBytes bounds the file of the events that destinations rejected.
	QuarantineBytes int64 `yaml:"quarantine_bytes"`
}

// DefaultConfig is the configuration where nothing is said.
func DefaultConfig() Config {
	return Config{
		Dir: "/var/lib/watchglass/journal", MaxBytes: 2 << 30, PriorityBytes: 256 << 20, SpansBytes: 256 << 20, SegmentBytes: 16 << 20,
		MemoryBytes: 16 << 20, Sync: SyncInterval, SyncInterval: time.Second, CheckpointInterval: time.Minute,
		QuarantineBytes: 16 << 20,
	}
}

// segmentsAtLeast is how many segments a lane must have room for, so that evicting one leaves most.
const segmentsAtLeast = 4

// Validate says what is wrong with the configuration, or nil.
func (c *Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Dir == "" {
		wrong("dir: must name the folder")
	}
	if c.SegmentBytes < 64<<10 || c.SegmentBytes > 1<<30 {
		wrong("segment_bytes: must be between 65536 and 1073741824, not %d", c.SegmentBytes)
	}
	for _, lane := range []struct {
		name  string
		bytes int64
	}{{"max_bytes", c.MaxBytes}, {"priority_bytes", c.PriorityBytes}, {"spans_bytes", c.SpansBytes}} {
		if lane.bytes < segmentsAtLeast*c.SegmentBytes {
			wrong("%s: must be at least %d times segment_bytes, %d, not %d",
				lane.name, segmentsAtLeast, segmentsAtLeast*c.SegmentBytes, lane.bytes)
		}
	}
	if c.MaxAge != 0 && c.MaxAge < time.Minute {
		wrong("max_age: must be 0 (never) or at least 1m, not %s", c.MaxAge)
	}
	if c.MemoryBytes < 1<<20 {
		wrong("memory_bytes: must be at least 1048576, not %d", c.MemoryBytes)
	}
	switch c.Sync {
	case SyncAlways, SyncNever:
	case SyncInterval:
		if c.SyncInterval < time.Millisecond || c.SyncInterval > time.Hour {
			wrong("sync_interval: must be between 1ms and 1h, not %s", c.SyncInterval)
		}
	default:
		wrong("sync: %q is none of always, interval and never", c.Sync)
	}
	if c.CheckpointInterval < time.Second {
		wrong("checkpoint_interval: must be at least 1s, not %s", c.CheckpointInterval)
	}
	if c.QuarantineBytes < 64<<10 {
		wrong("quarantine_bytes: must be at least 65536, not %d", c.QuarantineBytes)
	}
	return errors.Join(errs...)
}

// budget is how many bytes a lane may take.
func (c *Config) budget(lane Lane) int64 {
	switch lane {
	case Priority:
		return c.PriorityBytes
	case Spans:
		return c.SpansBytes
	default:
		return c.MaxBytes
	}
}
