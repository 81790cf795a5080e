// SPDX-License-Identifier: Apache-2.0

// Package json writes every event as one JSON object on one line, to a file or any writer.
//
// It owns the form of the line:
//
//	{"time": RFC 3339 with nanoseconds in UTC, "event": name, "severity": OpenTelemetry's short name,
//	 "body": one display line, "trace_id": hex, "span_id": hex, "resource": {…}, "attributes": {…}}
//
// trace_id and span_id are there when they are known. Lines are always valid JSON and valid UTF-8,
// whatever bytes the sandbox made: what is not UTF-8 is written as exporters.AppendRewritten says, and
// the attribute watchglass.capture.escaped lists the names of what was so rewritten ("body" among them). Control and invisible characters are written as \uNNNN, so that a terminal may show the file.
//
// It must not select or change events, and knows no event kind.
package json

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// Config says where to write.
type Config struct {
	// Path is the file to write.
	Path string `yaml:"path"`
	// Append keeps what the file holds already; otherwise it is emptied first.
	Append bool `yaml:"append"`
}

// Validate says what is wrong with the configuration, or nil.
func (c Config) Validate() error {
	if c.Path == "" {
		return errors.New("path: must name the file to write")
	}
	return nil
}

// flushBytes is how much is gathered before it is written within a batch: memory stays bounded when a
// batch holds long argument lists.
const flushBytes = 256 << 10

// Exporter writes JSON lines. Its methods are called from one goroutine.
type Exporter struct {
	w       io.Writer
	name    string
	encoder encoder
	buf     []byte
	// file is what Open opened, nil for a caller's writer; size is where its last whole line ends.
	file *os.File
	size int64
	// torn is true when a failed write may have left half a line in a writer that cannot be cut back.
	torn bool
}

// New writes to w, which stays the caller's to close. The resource is written on every line, before the
// sandbox's own attributes.
func New(w io.Writer, resource []event.Attribute) *Exporter {
	return &Exporter{w: w, name: "the JSON lines", encoder: newEncoder(resource)}
}

// Open writes to a file, which only its owner may read when it is made here: arguments and paths are
// nobody else's business. Shutdown closes it.
func Open(cfg Config, resource []event.Attribute) (*Exporter, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("json exporter: %w", err)
	}
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if !cfg.Append {
		flags |= os.O_TRUNC
	}
	file, err := os.OpenFile(cfg.Path, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the file for JSON lines: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("look at the file for JSON lines: %w", err)
	}
	e := New(file, resource)
	e.name = cfg.Path
	if info.Mode().IsRegular() {
		e.size = info.Size()
	}
	e.file = file
	return e, nil
}

// Name implements collector.Exporter.
func (*Exporter) Name() string { return "json" }

// Export writes the batch as whole lines and returns once the operating system has them. Its error is an
// *exporters.UndeliveredError: the events before the failed write are in the file.
func (e *Exporter) Export(_ context.Context, batch []*event.Event) error {
	e.buf = e.buf[:0]
	if e.torn {
		e.buf = append(e.buf, '\n')
	}
	written := 0
	for i, ev := range batch {
		e.buf = e.encoder.append(e.buf, ev)
		if len(e.buf) < flushBytes && i < len(batch)-1 {
			continue
		}
		if err := e.flush(); err != nil {
			return &exporters.UndeliveredError{Events: len(batch) - written, Err: err}
		}
		written = i + 1
	}
	return nil
}

func (e *Exporter) flush() error {
	if len(e.buf) == 0 {
		return nil
	}
	n, err := e.w.Write(e.buf)
	if err == nil && n < len(e.buf) {
		err = io.ErrShortWrite
	}
	if err != nil {
		e.mend(n)
		e.buf = e.buf[:0]
		return fmt.Errorf("write %s: %w", e.name, err)
	}
	e.size += int64(n)
	e.torn = false
	e.buf = e.buf[:0]
	if cap(e.buf) > 4*flushBytes {
		e.buf = nil // one huge event must not keep its memory for ever
	}
	return nil
}

// mend takes back what a failed write left behind, so that every line of the file stays whole.
func (e *Exporter) mend(written int) {
	if written <= 0 {
		return
	}
	if e.file != nil && e.file.Truncate(e.size) == nil {
		return
	}
	e.torn = true
}

// Shutdown closes the file that Open opened, after its contents reached the disk.
func (e *Exporter) Shutdown(context.Context) error {
	if e.file == nil {
		return nil
	}
	syncErr := e.file.Sync()
	if info, err := e.file.Stat(); err == nil && !info.Mode().IsRegular() {
		syncErr = nil // pipes and terminals cannot be synced
	}
	if err := errors.Join(syncErr, e.file.Close()); err != nil {
		return fmt.Errorf("finish %s: %w", e.name, err)
	}
	return nil
}
