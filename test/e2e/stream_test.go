// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// Names in the stream that more than one assertion uses.
const (
	eventExec    = "watchglass.process.exec"
	eventExit    = "watchglass.process.exit"
	eventOpen    = "watchglass.file.open"
	eventConnect = "watchglass.network.connect"
	eventLoss    = "watchglass.telemetry.loss"
	eventFinding = "watchglass.finding"
	eventStop    = "watchglass.sandbox.stop"

	attrUID       = "watchglass.process.uid"
	attrParentUID = "watchglass.process.parent_uid"
	attrCallID    = "gen_ai.tool.call.id"
)

// record is one line of the stream.
type record struct {
	Time       time.Time      `json:"time"`
	Event      string         `json:"event"`
	Resource   map[string]any `json:"resource"`
	Attributes map[string]any `json:"attributes"`
	TraceID    string         `json:"trace_id"`
	SpanID     string         `json:"span_id"`
}

// text is an attribute as text; numbers are written out, and an absent attribute is "".
func (r record) text(key string) string {
	value, ok := r.Attributes[key]
	if !ok {
		return ""
	}
	return fmt.Sprint(value)
}

// list is an attribute that is a list of strings.
func (r record) list(key string) []string {
	values, _ := r.Attributes[key].([]any)
	var list []string
	for _, value := range values {
		list = append(list, fmt.Sprint(value))
	}
	return list
}

func (r record) args() []string { return r.list("process.command_args") }

// stream is everything that one run of watchglass wrote.
type stream struct {
	records []record
	// parents is each process's parent, by watchglass.process.uid.
	parents map[string]string
}

// readStream reads JSON lines. Every line has to be whole and to say what happened and when.
func readStream(r io.Reader) (stream, error) {
	s := stream{parents: map[string]string{}}
	lines := bufio.NewReader(r)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return s, nil
		}
		if err != nil {
			return s, fmt.Errorf("read line %d (%q): %w", number, line, err)
		}
		var rec record
		decoder := json.NewDecoder(bytes.NewReader(line))
		decoder.UseNumber()
		if err := decoder.Decode(&rec); err != nil {
			return s, fmt.Errorf("parse line %d (%q): %w", number, line, err)
		}
		if rec.Event == "" || rec.Time.IsZero() || rec.Attributes == nil {
			return s, fmt.Errorf("line %d has no event, no time or no attributes: %q", number, line)
		}
		s.records = append(s.records, rec)
		if uid, parent := rec.text(attrUID), rec.text(attrParentUID); uid != "" && parent != "" {
			s.parents[uid] = parent
		}
	}
}

// all returns the records of an event that satisfy the condition.
func (s stream) all(event string, condition func(record) bool) []record {
	var found []record
	for _, rec := range s.records {
		if rec.Event == event && condition(rec) {
			found = append(found, rec)
		}
	}
	return found
}

// execs returns the execs with exactly these arguments.
func (s stream) execs(args ...string) []record {
	return s.all(eventExec, func(r record) bool { return slices.Equal(r.args(), args) })
}

// exec returns the one exec with exactly these arguments.
func (s stream) exec(t *testing.T, args ...string) record {
	t.Helper()
	found := s.execs(args...)
	if len(found) != 1 {
		t.Fatalf("%d execs of %q, want 1; execs seen:\n%s", len(found), args, s.describeExecs())
	}
	return found[0]
}

// connects returns the connects to a port of the IPv4 loopback.
func (s stream) connects(port int) []record {
	return s.all(eventConnect, func(r record) bool {
		return r.text("network.peer.address") == "127.0.0.1" && r.text("network.peer.port") == fmt.Sprint(port)
	})
}

// exitCode checks how the process of an exec ended.
func (s stream) exitCode(t *testing.T, process record, want int) {
	t.Helper()
	exits := s.all(eventExit, func(r record) bool { return r.text(attrUID) == process.text(attrUID) })
	if len(exits) != 1 {
		t.Errorf("%q: %d exits, want 1", process.args(), len(exits))
		return
	}
	if got := exits[0].text("process.exit.code"); got != fmt.Sprint(want) {
		t.Errorf("%q: exit code %q, want %d (signal %q)", process.args(), got, want, exits[0].text("watchglass.exit.signal"))
	}
	if exits[0].Time.Before(process.Time) {
		t.Errorf("%q: exit at %v, before its exec at %v", process.args(), exits[0].Time, process.Time)
	}
}

// descends says whether a process is another one or descends from it.
func (s stream) descends(uid, ancestor string) bool {
	for seen := map[string]bool{}; uid != "" && !seen[uid]; uid = s.parents[uid] {
		if uid == ancestor {
			return true
		}
		seen[uid] = true
	}
	return false
}

// sound checks what holds for every stream of a run in which nothing went wrong and nobody meant harm.
func (s stream) sound(t *testing.T) {
	t.Helper()
	always := func(record) bool { return true }
	for _, loss := range s.all(eventLoss, always) {
		t.Errorf("events were lost: %v", loss.Attributes)
	}
	for _, finding := range s.all(eventFinding, always) {
		// These agents are started without their safeguards and in no sandbox, so that is true of them.
		if rule := finding.text("security_rule.name"); rule != "posture-bypass" && rule != "weak-sandbox" {
			t.Errorf("a false alarm: %v", finding.Attributes)
		}
	}
	// Whoever was seen to live was seen to die.
	stops, exits := s.all(eventStop, always), s.all(eventExit, always)
	if len(stops) != 1 {
		t.Errorf("the sandbox stopped %d times, want once", len(stops))
	} else if got := stops[0].text("watchglass.sandbox.processes"); got != fmt.Sprint(len(exits)) {
		t.Errorf("%d exits of %s processes", len(exits), got)
	}
	seen := map[string]bool{}
	for i, rec := range s.records {
		if got := rec.text("watchglass.event.seq"); got != fmt.Sprint(i+1) {
			t.Errorf("line %d has sequence number %s", i+1, got)
		}
		uid := rec.text("log.record.uid")
		if uid == "" || seen[uid] {
			t.Errorf("%s has no log.record.uid of its own: %q", rec.Event, uid)
		}
		seen[uid] = true
		switch rec.Event {
		case eventExec, eventExit, eventOpen, eventConnect:
			if rec.text(attrUID) == "" {
				t.Errorf("%s has no %s: %v", rec.Event, attrUID, rec.Attributes)
			}
			if rec.Resource["watchglass.sandbox.id"] == nil {
				t.Errorf("%s has no sandbox: %v", rec.Event, rec.Resource)
			}
		}
	}
}

// describeExecs is for people who read a failure.
func (s stream) describeExecs() string {
	var b strings.Builder
	for _, rec := range s.all(eventExec, func(record) bool { return true }) {
		fmt.Fprintf(&b, "%s uid=%s call=%s %.160q\n", rec.Time.Format("05.000"), rec.text(attrUID), rec.text(attrCallID), rec.args())
	}
	return b.String()
}

func TestReadStream(t *testing.T) {
	const line = `{"time":"2026-01-02T03:04:05.000000006Z","event":"watchglass.process.exec","attributes":{` +
		`"watchglass.process.uid":"c","watchglass.process.parent_uid":"b","process.pid":4194304,"process.command_args":["a","b c"]}}` + "\n"
	s, err := readStream(strings.NewReader(line + strings.ReplaceAll(strings.ReplaceAll(line, `"b"`, `"a"`), `"c"`, `"b"`)))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.execs("a", "b c"); len(got) != 2 || got[0].text("process.pid") != "4194304" || got[0].Time.Nanosecond() != 6 {
		t.Errorf("execs: %+v", got)
	}
	if !s.descends("c", "a") || !s.descends("c", "c") || s.descends("a", "c") {
		t.Errorf("descent: %v", s.parents)
	}
	for name, bad := range map[string]string{
		"cut short":     line[:len(line)-1],
		"not JSON":      "event\n",
		"no attributes": `{"time":"2026-01-02T03:04:05Z","event":"x"}` + "\n",
	} {
		if _, err := readStream(strings.NewReader(line + bad)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
