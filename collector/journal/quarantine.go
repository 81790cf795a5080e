// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchglass/watchglass/event"
)

// quarantineName is the file of events that a destination will never take; the one before it has .old added.
const quarantineName = "quarantine.jsonl"

// quarantined is the events that destinations rejected, for somebody to look at.
type quarantined struct {
	quarantineMu sync.Mutex
	file         *os.File
	size         int64
	count        atomic.Uint64
}

// Quarantine is one line of the quarantine's file.
type Quarantine struct {
	Time        time.Time      `json:"time"`
	Destination string         `json:"destination"`
	Reason      string         `json:"reason"`
	Instance    string         `json:"instance"`
	Seq         uint64         `json:"seq"`
	Kind        event.Kind     `json:"kind"`
	Severity    event.Severity `json:"severity"`
	Sandbox     string         `json:"sandbox,omitempty"`
	Session     string         `json:"session,omitempty"`
	// Resource and Record are the protobuf messages, in base64.
	Resource []byte `json:"resource"`
	Record   []byte `json:"record"`
}

func (j *Journal) openQuarantine() error {
	file, err := os.OpenFile(filepath.Join(j.cfg.Dir, quarantineName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the quarantine: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("look at the quarantine: %w", err), file.Close())
	}
	j.file, j.size = file, info.Size()
	return nil
}

// Quarantine puts aside an event that a destination rejected. Half of the space is the newest ones'.
func (j *Journal) Quarantine(destination, reason string, e *event.Encoded) error {
	line, err := json.Marshal(Quarantine{
		Time: time.Now().UTC(), Destination: destination, Reason: reason, Instance: e.Instance, Seq: e.Seq, Kind: e.Kind,
		Severity: e.Severity, Sandbox: e.Sandbox, Session: e.Session, Resource: e.Resource, Record: e.Record,
	})
	if err != nil {
		return fmt.Errorf("put an event into quarantine: %w", err)
	}
	line = append(line, '\n')
	j.count.Add(1)
	j.quarantineMu.Lock()
	defer j.quarantineMu.Unlock()
	if j.file == nil || int64(len(line)) > j.cfg.QuarantineBytes/2 {
		return fmt.Errorf("put an event into quarantine: its %d bytes are more than there is room for", len(line))
	}
	if j.size > 0 && j.size+int64(len(line)) > j.cfg.QuarantineBytes/2 {
		if err := j.turnQuarantine(); err != nil {
			return err
		}
	}
	n, err := j.file.Write(line)
	if err != nil {
		_ = j.file.Truncate(j.size) // what a failed write left
		return fmt.Errorf("put an event into quarantine: %w", err)
	}
	j.size += int64(n)
	return nil
}

// turnQuarantine begins the file anew and keeps the one before.
func (j *Journal) turnQuarantine() error {
	path := filepath.Join(j.cfg.Dir, quarantineName)
	if err := os.Rename(path, path+".old"); err != nil {
		return fmt.Errorf("turn the quarantine: %w", err)
	}
	err := j.file.Close()
	j.file = nil
	return errors.Join(err, j.openQuarantine())
}

func (j *Journal) closeQuarantine() error {
	j.quarantineMu.Lock()
	defer j.quarantineMu.Unlock()
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	if err != nil {
		return fmt.Errorf("close the quarantine: %w", err)
	}
	return nil
}
