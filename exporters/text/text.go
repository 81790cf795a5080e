// SPDX-License-Identifier: Apache-2.0

// Package text writes the timeline that people read: one event a line, with its time, its process, what
// was done and to what; and the summary at the end of a session.
//
// It owns the layout and the colours. Nothing that came from inside a sandbox reaches the terminal raw:
// every such byte goes through exporters.AppendPrintable, so a file name can neither move the cursor,
// nor change the window's title, nor begin a line of its own. What is exact to the byte is the JSON form.
//
// It must not read the environment or find out by itself whether it may use colour (see Colour).
package text

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// Config says how the timeline looks.
type Config struct {
	// Colour marks severity by colour. See the function Colour for when that is wanted.
	Colour bool `yaml:"colour"`
	// Width cuts longer lines, in characters; 0 never cuts.
	Width int `yaml:"width"`
	// Everything also shows events of severity DEBUG that change nothing, such as most opens for reading.
	Everything bool `yaml:"everything"`
	// Sandbox starts each line with the sandbox's name, for timelines of several.
	Sandbox bool `yaml:"sandbox"`
	// Location is the time zone; nil means the machine's.
	Location *time.Location `yaml:"-"`
}

// minWidth leaves room for time, process and verb.
const minWidth = 60

// DefaultConfig is a timeline without colour and with lines of at most 240 characters.
func DefaultConfig() Config { return Config{Width: 240} }

// Validate says what is wrong with the configuration, or nil.
func (c Config) Validate() error {
	if c.Width != 0 && c.Width < minWidth {
		return fmt.Errorf("width: must be 0 (never cut) or at least %d, not %d", minWidth, c.Width)
	}
	return nil
}

// Colour says whether to use colour on a file: it must be a terminal, and noColor, the value of the
// environment variable NO_COLOR (https://no-color.org), must be empty.
func Colour(file *os.File, noColor string) bool {
	if noColor != "" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// Exporter writes the timeline. Its methods are called from one goroutine.
type Exporter struct {
	w    io.Writer
	cfg  Config
	buf  []byte
	body []byte
}

// New writes to w, which stays the caller's to close.
func New(w io.Writer, cfg Config) (*Exporter, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("text exporter: %w", err)
	}
	if cfg.Location == nil {
		cfg.Location = time.Local
	}
	return &Exporter{w: w, cfg: cfg}, nil
}

// Name implements collector.Exporter.
func (*Exporter) Name() string { return "text" }

// Export writes the events of the batch that are worth a line.
func (e *Exporter) Export(_ context.Context, batch []*event.Event) error {
	e.buf = e.buf[:0]
	for _, ev := range batch {
		if e.cfg.Everything || worthALine(ev) {
			e.buf = e.appendLine(e.buf, ev)
		}
	}
	if len(e.buf) == 0 {
		return nil
	}
	if _, err := e.w.Write(e.buf); err != nil {
		return fmt.Errorf("write the timeline: %w", err)
	}
	return nil
}

// Shutdown implements collector.Exporter; everything is written already.
func (*Exporter) Shutdown(context.Context) error { return nil }

// worthALine leaves out what is of severity DEBUG, but keeps what may have changed a file: a timeline of an
// agent's work that does not show its edits would be of no use.
func worthALine(ev *event.Event) bool {
	if ev.Payload.Severity() > event.SeverityDebug {
		return true
	}
	const changes = event.AccessWrite | event.AccessCreate | event.AccessTruncate | event.AccessAppend
	switch file := ev.Payload.(type) {
	case *event.FileOpen:
		return file.Error == 0 && file.Access&changes != 0 && realFile(file.Path, file.Class)
	case *event.FileChange:
		return file.Error == 0 && realFile(file.Path, file.Class)
	default:
		return false
	}
}

// realFile says whether a path is one of files that are kept.
func realFile(path string, class event.FileClass) bool {
	return class != event.FileClassProc && !strings.HasPrefix(path, "/dev/")
}

// Columns at which the verb and the object start, counted from the end of the time.
const (
	processColumns = 22
	verbColumns    = 9
)

func (e *Exporter) appendLine(dst []byte, ev *event.Event) []byte {
	line := newLine(dst, e.cfg.Width)
	severity := ev.Payload.Severity()
	line.colour(e.cfg.Colour, colourOf(ev.Kind(), severity))
	line.plain(ev.Time.In(e.cfg.Location).Format("15:04:05.000"))
	line.plain(" ")
	if e.cfg.Sandbox {
		name := "-"
		if ev.Sandbox != nil {
			name = ev.Sandbox.Name
		}
		column := line.columns
		line.hostile(name)
		line.pad(column + processColumns)
	}
	column := line.columns
	if ev.Process != nil {
		line.hostile(processName(ev.Process))
		line.plain("[")
		line.plain(strconv.FormatUint(uint64(ev.Process.PID), 10))
		line.plain("]")
	} else {
		line.plain("-")
	}
	line.pad(column + processColumns)
	column = line.columns
	line.plain(verb(ev.Kind()))
	line.pad(column + verbColumns)
	e.body = ev.Payload.AppendBody(e.body[:0])
	line.hostile(string(e.body))
	if ev.Truncated {
		line.plain(" (cut)")
	}
	return line.end()
}

func processName(p *event.Process) string {
	if p.Name == "" {
		return "?"
	}
	return p.Name
}

// verb is the last part of an event's name where that says enough, else the whole without the prefix.
func verb(kind event.Kind) string {
	name := strings.TrimPrefix(string(kind), "watchglass.")
	for _, noun := range []string{"process.", "file.", "network."} {
		if rest, ok := strings.CutPrefix(name, noun); ok {
			return rest
		}
	}
	return name
}

// SGR parameters of the colours in use.
const (
	bold   = "1"
	dim    = "2"
	red    = "1;31"
	yellow = "33"
)

func colourOf(kind event.Kind, severity event.Severity) string {
	switch {
	case kind == event.KindFinding && severity >= event.SeverityMedium, severity >= event.SeverityError:
		return red
	case severity >= event.SeverityWarn, kind == event.KindFinding:
		return yellow
	case kind == event.KindProcessExec:
		return bold
	case severity < event.SeverityInfo:
		return dim
	}
	return ""
}

// line is one line in the making, cut at a width.
type line struct {
	dst []byte
	// columns is the characters so far, width the most that are allowed (0: any number).
	columns, width int
	// mark is where to cut so that the mark of a cut still fits, in bytes; -1 while not reached.
	mark     int
	overfull bool
	coloured bool
}

// cutMark ends a line that was cut.
const cutMark = "…"

func newLine(dst []byte, width int) *line { return &line{dst: dst, width: width, mark: -1} }

func (l *line) colour(enabled bool, sgr string) {
	if !enabled || sgr == "" {
		return
	}
	l.dst = append(l.dst, "\x1b["...)
	l.dst = append(l.dst, sgr...)
	l.dst = append(l.dst, 'm')
	l.coloured = true
}

// plain adds text of our own.
func (l *line) plain(s string) {
	for len(s) > 0 && !l.overfull {
		_, size := utf8.DecodeRuneInString(s)
		before := len(l.dst)
		l.dst = append(l.dst, s[:size]...)
		l.count(before, 1)
		s = s[size:]
	}
}

// hostile adds text from inside a sandbox, character by character, so that no escape is ever cut in two.
func (l *line) hostile(s string) {
	for len(s) > 0 && !l.overfull {
		before := len(l.dst)
		var size int
		l.dst, size = exporters.AppendPrintable(l.dst, s)
		l.count(before, utf8.RuneCount(l.dst[before:]))
		s = s[size:]
	}
}

// count accounts for what was added since before; beyond the width the line is overfull.
func (l *line) count(before, columns int) {
	if l.width == 0 {
		l.columns += columns
		return
	}
	if l.mark < 0 && l.columns+columns > l.width-1 {
		l.mark = before
	}
	l.columns += columns
	l.overfull = l.columns > l.width
}

func (l *line) pad(column int) {
	if l.columns >= column {
		l.plain(" ")
	}
	for l.columns < column && !l.overfull {
		l.plain(" ")
	}
}

func (l *line) end() []byte {
	if l.overfull {
		l.dst = append(l.dst[:l.mark], cutMark...)
	}
	if l.coloured {
		l.dst = append(l.dst, "\x1b[0m"...)
	}
	return append(l.dst, '\n')
}
