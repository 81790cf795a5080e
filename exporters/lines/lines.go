// SPDX-License-Identifier: Apache-2.0

// Package lines writes events that the journal keeps into a file, one line each: what `watchglass collect` does with
// JSON lines and with the timeline.
//
// It owns the file: that every line in it is whole, whatever ended the process or filled the disk. It must not know
// how a line looks (a Format does), keep a position (the journal's cursor does), or wait for a reader that stands
// still once it is told to end.
package lines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// Format is how an event becomes a line. It is used from one goroutine.
type Format interface {
	// Append appends the event's line with its newline; nothing when the event is not worth one.
	Append(dst []byte, r *exporters.Recorded) []byte
	// Begins says whether text, which has no newline, can be the first bytes of such a line.
	Begins(text []byte) bool
}

// Settings is a destination of lines.
type Settings struct {
	// Name is the destination's name in cursors, metrics and logs.
	Name string
	// Path is the file, made for its owner alone: arguments and paths are nobody else's business. File is written
	// instead of it when it is not nil, and stays the caller's to close.
	Path string
	File *os.File
	// Keep keeps what the file at Path holds already; otherwise it is emptied first.
	Keep   bool
	Decode exporters.Decoder
	Format Format
}

// flushBytes is how much is gathered before it is written: memory stays bounded when events are large.
const flushBytes = 256 << 10

// Destination implements collector.Destination: an event is delivered once its line is in the file, which a crash of
// the machine can still take from there as long as the operating system has not put it on the disk.
type Destination struct {
	settings Settings
	file     *os.File
	own      bool
	// regular is whether the file can be cut back.
	regular bool
	// torn is true when half a line may be at the end of what cannot be cut back.
	torn bool
	buf  []byte
}

// Open opens the file. What is torn at its end, because a crash came in the middle of a line, is cut off when it is
// of this format, for it comes again whole; anything else is left, and ended with a newline.
func Open(s Settings) (*Destination, error) {
	d := &Destination{settings: s, file: s.File}
	if d.file == nil {
		flags := os.O_CREATE | os.O_RDWR | os.O_APPEND
		if !s.Keep {
			flags |= os.O_TRUNC
		}
		var err error
		if d.file, err = open(s.Path, flags); err != nil {
			return nil, fmt.Errorf("open the file of destination %s: %w", s.Name, err)
		}
		d.own = true
	}
	if err := d.examine(); err != nil {
		return nil, errors.Join(fmt.Errorf("look at the end of %s: %w", d.file.Name(), err), d.close())
	}
	return d, nil
}

// open opens for writing alone what cannot be read too, such as a pipe's or a terminal's end.
func open(path string, flags int) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		flags = flags&^os.O_RDWR | os.O_WRONLY
	}
	return os.OpenFile(path, flags, 0o600) //nolint:wrapcheck // the caller's words follow
}

// examine finds out what kind of file it is, and mends its end.
func (d *Destination) examine() error {
	info, err := d.file.Stat()
	if err != nil || !d.own || !info.Mode().IsRegular() {
		return err //nolint:wrapcheck // the caller's words follow
	}
	d.regular = true
	tail, err := lastLine(d.file, info.Size())
	if err != nil || len(tail) == 0 {
		return err
	}
	if d.settings.Format.Begins(tail) {
		return d.file.Truncate(info.Size() - int64(len(tail))) //nolint:wrapcheck // the caller's words follow
	}
	d.torn = true
	return nil
}

// mostTail is the most bytes at the end of a file that can be of one torn line: no event has more, escaped.
const mostTail = 64 << 20

// lastLine is what is behind the last newline of a file of that size: at most mostTail bytes of it.
func lastLine(file io.ReaderAt, size int64) ([]byte, error) {
	const step = 64 << 10
	var tail []byte
	for end := size; end > 0 && size-end < mostTail; {
		begin := max(0, end-step)
		part := make([]byte, end-begin)
		if _, err := file.ReadAt(part, begin); err != nil {
			return nil, err //nolint:wrapcheck // the caller's words follow
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return append(part[i+1:], tail...), nil
		}
		tail = append(part, tail...)
		end = begin
	}
	return tail, nil
}

// Name implements collector.Destination.
func (d *Destination) Name() string { return d.settings.Name }

// Send writes the lines of the batch. When that fails the file is as it was before, unless it is none that can be cut
// back; what cannot be decoded is rejected.
func (d *Destination) Send(ctx context.Context, batch []event.Encoded) ([]event.Rejection, error) {
	var rejected []event.Rejection
	before, err := d.size()
	if err != nil {
		return nil, err
	}
	d.buf = d.buf[:0]
	for i := range batch {
		recorded, err := d.settings.Decode(&batch[i])
		if err != nil {
			rejected = append(rejected, event.Rejection{Index: i, Reason: err.Error()})
			continue
		}
		d.buf = d.settings.Format.Append(d.buf, recorded)
		if len(d.buf) >= flushBytes {
			if err := d.flush(ctx, before); err != nil {
				return nil, err
			}
		}
	}
	return rejected, d.flush(ctx, before)
}

// size is that of a file which can be cut back: by the file, for others may cut it too.
func (d *Destination) size() (int64, error) {
	if !d.regular {
		return 0, nil
	}
	info, err := d.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("look at %s: %w", d.file.Name(), err)
	}
	return info.Size(), nil
}

// flush writes what was gathered. When that fails the file is cut back to the size it had before.
func (d *Destination) flush(ctx context.Context, before int64) error {
	if len(d.buf) == 0 {
		return nil
	}
	if d.torn {
		d.buf = append(d.buf, 0)
		copy(d.buf[1:], d.buf)
		d.buf[0] = '\n'
	}
	n, err := d.write(ctx)
	if err != nil {
		if !d.regular || d.file.Truncate(before) != nil {
			d.torn = d.torn || n != 0
		}
		return fmt.Errorf("write %s: %w", d.file.Name(), err)
	}
	d.torn, d.buf = false, d.buf[:0]
	if cap(d.buf) > 4*flushBytes {
		d.buf = nil // one huge event must not keep its memory for ever
	}
	return nil
}

// write writes the buffer and returns how much of it, or -1 when that is not known. A reader that stands still
// holds up nobody once ctx ends: the write is left to itself then, with its buffer.
func (d *Destination) write(ctx context.Context) (int, error) {
	if d.regular {
		return d.file.Write(d.buf) //nolint:wrapcheck // the caller's words follow
	}
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func(buf []byte) {
		n, err := d.file.Write(buf)
		done <- result{n, err}
	}(d.buf)
	select {
	case r := <-done:
		return r.n, r.err
	case <-ctx.Done():
		d.buf = nil
		return -1, ctx.Err() //nolint:wrapcheck // the caller's words follow
	}
}

// Shutdown closes the file that Open opened, after its contents reached the disk.
func (d *Destination) Shutdown(context.Context) error {
	var err error
	if d.regular {
		err = d.file.Sync()
	}
	if err = errors.Join(err, d.close()); err != nil {
		return fmt.Errorf("finish %s: %w", d.file.Name(), err)
	}
	return nil
}

func (d *Destination) close() error {
	if !d.own {
		return nil
	}
	return d.file.Close() //nolint:wrapcheck // the caller's words follow
}
