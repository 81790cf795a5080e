// SPDX-License-Identifier: Apache-2.0

package text

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
	"github.com/watchglass/watchglass/exporters/internal/sample"
)

// kept is an event as it comes out of the journal.
func kept(e *event.Event) *exporters.Recorded {
	r := &exporters.Recorded{
		Time: e.Time, Kind: e.Kind(), Severity: e.Payload.Severity(), Body: string(e.Payload.AppendBody(nil)),
		Attributes: e.AppendAttributes(nil),
	}
	if e.Sandbox != nil {
		r.Resource = e.Sandbox.AppendAttributes(nil)
	}
	return r
}

// TestTimelineOfKeptEvents: the timeline from the journal has the lines of the one from memory, with the date.
func TestTimelineOfKeptEvents(t *testing.T) {
	t.Parallel()
	events := sample.Events()
	for _, operation := range []event.FileOperation{
		event.FileMkdir, event.FileMknod, event.FileUnlink, event.FileRenamed, event.FileLinked, event.FileSymlink, event.FileChmod, event.FileTruncate,
	} {
		for _, path := range []string{"/src/a", "/dev/null"} {
			events = append(events, &event.Event{Time: sample.Start(), Payload: &event.FileChange{Operation: operation, Path: path}},
				&event.Event{Time: sample.Start(), Payload: &event.FileChange{Operation: operation, Path: path, Error: 2}})
		}
	}
	for access := range event.AccessDirectory << 1 {
		events = append(events,
			&event.Event{Time: sample.Start(), Payload: &event.FileOpen{Path: "/src/a", Access: access}},
			&event.Event{Time: sample.Start(), Payload: &event.FileOpen{Path: "/src/a", Access: access, Error: 2}},
			&event.Event{Time: sample.Start(), Payload: &event.FileOpen{Path: "/proc/a", Access: access, Class: event.FileClassProc}})
	}
	for _, everything := range []bool{false, true} {
		cfg := Config{Sandbox: true, Everything: everything, Location: time.UTC}
		format, err := NewTimeline(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		wants := format.Wants()
		for _, e := range events {
			r := kept(e)
			before := len(got)
			got = format.Append(got, r)
			passed := wants != nil && !wants(&event.Encoded{Kind: r.Kind, Severity: r.Severity})
			if passed && len(got) > before {
				t.Errorf("%s has a line and is not wanted: %s", r.Kind, got[before:])
			}
		}
		want := string(timeline(t, cfg, events...))
		var undated []string
		for line := range strings.Lines(string(got)) {
			if !format.Begins([]byte(line[:len(line)-1])) {
				t.Errorf("a line is taken for none: %s", line)
			}
			undated = append(undated, strings.TrimPrefix(line, "2026-03-14 "))
		}
		if g := strings.Join(undated, ""); g != want {
			t.Errorf("everything %v: from the journal it is\n%s\nfrom memory\n%s", everything, g, want)
		}
	}
}

func TestBegins(t *testing.T) {
	t.Parallel()
	l, err := NewLines(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"": true, "20": true, "2026-03-14 15:09": true, "2026-03-14 15:09:26.535 make[1]": true, "\x1b[1;31m2026-03-14": true, "\x1b[1": true,
		"x": false, "2026.03": false, "2026-03-14T15": false, "Mon Mar 14": false, "\x1b[1mx": false,
	} {
		if got := l.Begins([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	// However a line is cut.
	line := l.Append(nil, kept(sample.Events()[0]))
	for n := range slices.Index(line, '\n') {
		if !l.Begins(line[:n]) {
			t.Errorf("%q is taken for another's", line[:n])
		}
	}
}
