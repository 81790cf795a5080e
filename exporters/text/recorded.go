// SPDX-License-Identifier: Apache-2.0

package text

import (
	"strconv"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// Lines writes events that were kept, in the form of the timeline, but with the date: they may be of any day.
// It is for use by one goroutine.
type Lines struct{ cfg Config }

// NewLines makes it. Everything of the configuration is not used: whoever looks for events wants to see them.
func NewLines(cfg Config) (*Lines, error) {
	e, err := New(nil, cfg)
	if err != nil {
		return nil, err
	}
	return &Lines{cfg: e.cfg}, nil
}

// Append appends the event as one line with its newline.
func (l *Lines) Append(dst []byte, r *exporters.Recorded) []byte {
	line := newLine(dst, l.cfg.Width)
	line.colour(l.cfg.Colour, colourOf(r.Kind, r.Severity))
	line.plain(r.Time.In(l.cfg.Location).Format("2006-01-02 15:04:05.000"))
	line.plain(" ")
	if l.cfg.Sandbox {
		column := line.columns
		line.hostile(text(r.Of(event.SandboxName)))
		line.pad(column + processColumns)
	}
	column := line.columns
	if pid, ok := r.Attribute(event.ProcessPID); ok {
		name, _ := r.Attribute(event.ProcessExecutableName)
		if name.AsString() == "" {
			name = event.String("?")
		}
		line.hostile(name.AsString())
		line.plain("[")
		line.plain(strconv.FormatInt(pid.AsInt(), 10))
		line.plain("]")
	} else {
		line.plain("-")
	}
	line.pad(column + processColumns)
	column = line.columns
	line.hostile(verb(r.Kind))
	line.pad(column + verbColumns)
	line.hostile(r.Body)
	if cut, _ := r.Attribute(event.CaptureTruncated); cut.AsBool() {
		line.plain(" (cut)")
	}
	return line.end()
}

func text(v event.Value, ok bool) string {
	if !ok || v.AsString() == "" {
		return "-"
	}
	return v.AsString()
}
