// SPDX-License-Identifier: Apache-2.0

package text

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// WriteSummary writes the end of a session as a block of aligned lines.
func WriteSummary(w io.Writer, cfg Config, s *event.Summary) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("summary: %w", err)
	}
	b := block{cfg: cfg}
	b.overview(s)
	b.sessions(s)
	b.files(s.Files)
	b.destinations(s)
	b.findings(s)
	b.losses(s.Lost)
	if _, err := w.Write(b.dst); err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	return nil
}

// block is the summary in the making.
type block struct {
	cfg Config
	dst []byte
}

// labelColumns is where the values start.
const labelColumns = 14

func (b *block) overview(s *event.Summary) {
	took := s.Duration.Round(10 * time.Millisecond).String()
	b.row("session", "", exporters.Printable(s.Sandbox)+", watched for "+took)
	parts := []string{number(s.Processes) + " seen", number(s.Execs) + " programs started", number(s.Failed) + " failed"}
	b.row("processes", "", strings.Join(parts, ", "))
	var commands []string
	for _, c := range s.Commands {
		commands = append(commands, exporters.Printable(c.Name)+" "+strconv.FormatInt(c.N, 10))
	}
	if s.CommandsOmitted > 0 {
		commands = append(commands, "and "+number(s.CommandsOmitted)+" more")
	}
	if len(commands) > 0 {
		b.row("programs", "", strings.Join(commands, ", "))
	}
	label := "outlived"
	for _, p := range s.Outlived {
		b.row(label, yellow, exporters.Printable(processName(p))+"["+strconv.FormatUint(uint64(p.PID), 10)+"] is still alive: "+
			exporters.Printable(strings.Join(p.Args, " ")))
		label = ""
	}
}

// sessions writes a line for each of the agents' sessions, and none where there are none.
func (b *block) sessions(s *event.Summary) {
	label := "agents"
	for _, v := range s.Sessions {
		parts := []string{plural(v.Calls, "tool call")}
		if v.Calls > 0 {
			parts[0] += " (processes known of " + number(v.Joined) + ")"
		}
		for _, n := range []struct {
			count int
			what  string
		}{{v.Granted, "granted"}, {v.Denied, "denied"}, {v.Mismatches, "contradicted by the kernel"}} {
			if n.count > 0 {
				parts = append(parts, number(n.count)+" "+n.what)
			}
		}
		colour := ""
		if v.Mismatches > 0 {
			colour = yellow
		}
		b.row(label, colour, exporters.Printable(v.Agent)+" session "+exporters.Printable(v.ID)+": "+strings.Join(parts, ", "))
		label = ""
	}
	if s.SessionsOmitted > 0 {
		b.row(label, "", "and "+number(s.SessionsOmitted)+" more sessions")
	}
}

func (b *block) files(files []event.FileSummary) {
	rows := [][]string{{"class", "opened", "written", "failed"}}
	for _, f := range files {
		rows = append(rows, []string{exporters.Printable(string(f.Class)), number(f.Opens), number(f.Written), number(f.Failed)})
	}
	b.table("files", rows, func(row int) string {
		if row > 0 && files[row-1].Class == event.FileClassSecret {
			return yellow
		}
		return ""
	})
	for _, f := range files {
		label := exporters.Printable(string(f.Class)) + " files"
		for _, path := range f.Paths {
			b.row(label, "", exporters.Printable(path))
			label = ""
		}
		if f.PathsOmitted > 0 {
			b.row(label, "", "and "+number(f.PathsOmitted)+" more opens")
		}
	}
}

func (b *block) destinations(s *event.Summary) {
	rows := [][]string{{"peer", "name", "scope", "connects", "failed", "sent", "received"}}
	for _, d := range s.Destinations {
		name := d.Name
		if name == "" {
			name = "-"
		}
		failed := number(d.Failed)
		if d.Failed > 0 && d.Error != "" {
			failed += " (" + exporters.Printable(d.Error) + ")"
		}
		rows = append(rows, []string{
			string(d.Transport) + " " + exporters.Printable(d.Peer), exporters.Printable(name), string(d.Scope), number(d.Connects), failed,
			string(event.AppendBytes(nil, d.Sent)), string(event.AppendBytes(nil, d.Received)),
		})
	}
	b.table("destinations", rows, func(row int) string {
		if row > 0 && s.Destinations[row-1].Failed > 0 {
			return yellow
		}
		return ""
	})
	if s.DestinationsOmitted > 0 {
		b.row("", "", "and "+number(s.DestinationsOmitted)+" more")
	}
}

func (b *block) findings(s *event.Summary) {
	if len(s.Findings) == 0 {
		b.row("findings", "", "none")
		return
	}
	label := "findings"
	for _, f := range s.Findings {
		colour := yellow
		if f.Severity() >= event.SeverityMedium {
			colour = red
		}
		text := fmt.Sprintf("%-8s %s: %s", f.Severity().FindingName(), exporters.Printable(f.Rule.ID), exporters.Printable(f.Title))
		if f.Count > 1 {
			text += " (" + number(f.Count) + " times)"
		}
		b.row(label, colour, text)
		label = ""
		b.paragraph(f.Explanation)
		if f.Severity() >= event.SeverityMedium && len(f.Rule.Next) > 0 {
			b.paragraph("Check next: " + strings.Join(f.Rule.Next, " "))
		}
	}
	if s.FindingsOmitted > 0 {
		b.row("", yellow, "and "+number(s.FindingsOmitted)+" more")
	}
}

func (b *block) losses(lost []event.LossCounter) {
	label := "lost"
	for _, l := range lost {
		if l.Count == 0 {
			continue
		}
		b.row(label, red, strconv.FormatUint(l.Count, 10)+" "+exporters.Printable(l.Lost)+" events at "+
			string(l.Stage)+": "+exporters.Printable(l.Reason))
		label = ""
	}
	if label != "" {
		b.row(label, "", "nothing")
	}
}

// row writes a label and a value, cut at the configured width.
func (b *block) row(label, colour, value string) {
	l := newLine(b.dst, b.cfg.Width)
	l.plain(label)
	l.pad(labelColumns)
	l.colour(b.cfg.Colour, colour)
	l.hostile(value)
	b.dst = l.end()
}

// The size of a paragraph: wide enough to be short, and never a page long.
const (
	paragraphColumns = 100
	paragraphLines   = 12
	indent           = "         "
)

// paragraph writes sentences over several lines, broken between words.
func (b *block) paragraph(text string) {
	width := paragraphColumns
	if b.cfg.Width != 0 {
		width = min(width, b.cfg.Width-labelColumns-len(indent))
	}
	lines := wrap(exporters.Printable(text), width)
	for i, line := range lines {
		if i == paragraphLines {
			b.row("", "", indent+cutMark)
			return
		}
		b.row("", "", indent+line)
	}
}

// wrap breaks text between words; a word that is wider than a line has its own, which row will cut.
func wrap(text string, width int) []string {
	var lines []string
	line, columns := "", 0
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		if columns > 0 && columns+1+n > width {
			lines = append(lines, line)
			line, columns = "", 0
		}
		if columns > 0 {
			line, columns = line+" ", columns+1
		}
		line, columns = line+word, columns+n
	}
	if columns > 0 {
		lines = append(lines, line)
	}
	return lines
}

// table writes rows whose columns line up. The first row is the heading; without others there is nothing to show.
func (b *block) table(label string, rows [][]string, colour func(row int) string) {
	if len(rows) < 2 {
		b.row(label, "", "none")
		return
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if leftAligned(rows, i) {
				line.WriteString(cell + padding)
			} else {
				line.WriteString(padding + cell)
			}
			line.WriteString("  ")
		}
		b.row(label, colour(n), strings.TrimRight(line.String(), " "))
		label = ""
	}
}

// leftAligned says whether a column is words; numbers are aligned at their ends.
func leftAligned(rows [][]string, column int) bool {
	return slices.ContainsFunc(rows[1:], func(row []string) bool {
		return row[column] != "" && (row[column][0] < '0' || row[column][0] > '9')
	})
}

func number(n int) string { return strconv.Itoa(n) }
