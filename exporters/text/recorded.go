// SPDX-License-Identifier: Apache-2.0

package text

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// datedLayout is the time of an event that may be of any day.
const datedLayout = "2006-01-02 15:04:05.000"

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
	line.plain(r.Time.In(l.cfg.Location).Format(datedLayout))
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

// Timeline writes events that were kept as Lines does, but only those that are worth a line to Exporter.
type Timeline struct{ Lines }

// NewTimeline makes it.
func NewTimeline(cfg Config) (*Timeline, error) {
	l, err := NewLines(cfg)
	if err != nil {
		return nil, err
	}
	return &Timeline{Lines: *l}, nil
}

// Wants says whether an event may be worth a line, without looking into it; nil when all are.
func (t *Timeline) Wants() func(*event.Encoded) bool {
	if t.cfg.Everything {
		return nil
	}
	return func(e *event.Encoded) bool {
		return e.Severity > event.SeverityDebug || e.Kind == event.KindFileOpen || ofFileChange(e.Kind)
	}
}

// Append appends the event as one line with its newline; nothing when it is not worth one.
func (t *Timeline) Append(dst []byte, r *exporters.Recorded) []byte {
	if !t.cfg.Everything && !keptWorthALine(r) {
		return dst
	}
	return t.Lines.Append(dst, r)
}

// keptWorthALine is worthALine of an event that was kept.
func keptWorthALine(r *exporters.Recorded) bool {
	if r.Severity > event.SeverityDebug {
		return true
	}
	if r.Kind != event.KindFileOpen && !ofFileChange(r.Kind) {
		return false
	}
	if _, failed := r.Attribute(event.ErrorType); failed {
		return false
	}
	if r.Kind == event.KindFileOpen {
		access, _ := r.Attribute(event.FileAccess)
		if !slices.ContainsFunc(access.AsStrings(), changes) {
			return false
		}
	}
	path, _ := r.Attribute(event.FilePath)
	class, _ := r.Attribute(event.FileClassKey)
	return realFile(path.AsString(), event.FileClass(class.AsString()))
}

// ofFileChange says whether events of a kind are an event.FileChange.
func ofFileChange(kind event.Kind) bool {
	switch kind {
	case event.KindFileCreate, event.KindFileDelete, event.KindFileRename, event.KindFileLink, event.KindFileChmod, event.KindFileTruncate:
		return true
	default:
		return false
	}
}

// changes says whether a way to open a file, by its name, may change it.
func changes(access string) bool {
	const all = event.AccessWrite | event.AccessCreate | event.AccessTruncate | event.AccessAppend
	return slices.Contains(all.Names(), access)
}

// Begins says whether text can be the first bytes of a line that Append made.
func (l *Lines) Begins(text []byte) bool {
	if rest, coloured := bytes.CutPrefix(text, []byte("\x1b[")); coloured {
		_, text, _ = bytes.Cut(rest, []byte("m"))
	}
	for i := range min(len(text), len(datedLayout)) {
		digit := text[i] >= '0' && text[i] <= '9'
		if wanted := datedLayout[i]; wanted >= '0' && wanted <= '9' && !digit || (wanted < '0' || wanted > '9') && text[i] != wanted {
			return false
		}
	}
	return true
}
