// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/watchglass/watchglass/event"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// recorded is one request as it was received from a real agent.
type recorded struct {
	Run      string          `json:"run"`
	Signal   string          `json:"signal"`
	Received int64           `json:"received"`
	Body     json.RawMessage `json:"body"`
}

func (r *recorded) at() time.Time { return time.Unix(0, r.Received).UTC() }

// recordings is the requests of a file in testdata/telemetry.
func recordings(t testing.TB, name string) []recorded {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "telemetry", name+".jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var list []recorded
	lines := bufio.NewReader(z)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		var r recorded
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
}

// translate gives a request to a translator.
func translate(t testing.TB, tr *Translator, r *recorded, from Origin) ([]*Statement, Account) {
	t.Helper()
	fail := func(err error) {
		if err != nil {
			t.Fatalf("%s: %v", r.Signal, err)
		}
	}
	switch r.Signal {
	case "logs":
		request := plogotlp.NewExportRequest()
		fail(request.UnmarshalJSON(r.Body))
		return tr.Logs(request.Logs(), from, r.at())
	case "traces":
		request := ptraceotlp.NewExportRequest()
		fail(request.UnmarshalJSON(r.Body))
		return tr.Traces(request.Traces(), from, r.at())
	default:
		request := pmetricotlp.NewExportRequest()
		fail(request.UnmarshalJSON(r.Body))
		return nil, tr.Metrics(request.Metrics())
	}
}

// everything tells all contents on, so that the golden files show them.
func everything() TranslatorConfig {
	return TranslatorConfig{Content: Content{Prompts: true, Arguments: true, Results: true}}
}

// TestRecordings holds what is made of every record that real agents sent to what was reviewed.
func TestRecordings(t *testing.T) {
	for _, name := range []string{
		"codex-samples", "codex-run", "claude-samples", "claude-run",
		"gemini-samples", "gemini-run", "opencode-samples", "opencode-run",
	} {
		t.Run(name, func(t *testing.T) {
			got := describe(t, recordings(t, name), strings.HasSuffix(name, "-samples"))
			path := filepath.Join("testdata", "telemetry", name+".txt")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
				t.Errorf("what is made of the records changed (-update rewrites the file, then read it):\n%s", diff)
			}
		})
	}
}

// describe is what is made of requests, in text: every statement, and how many records of which kind said nothing.
// Samples are of several sessions, of which each stands for itself.
func describe(t *testing.T, requests []recorded, samples bool) []byte {
	t.Helper()
	var out bytes.Buffer
	nothing := map[string]int{}
	tr := NewTranslator(everything())
	for _, r := range requests {
		if samples {
			tr = NewTranslator(everything())
		}
		tr.noted = func(a *Adapter, rec *record, v Verdict, said []*Statement) {
			name := rec.name
			if name == "" {
				name = "of scope " + rec.scope
			}
			if v != Told {
				nothing[fmt.Sprintf("%s %s %s %s", v, a.Name, rec.channel, name)]++
				return
			}
			fmt.Fprintf(&out, "%s %s %s %s\n", r.Run, a.Name, rec.channel, name)
			for _, s := range said {
				writeStatement(&out, s, r.at())
			}
		}
		_, account := translate(t, tr, &r, Origin{Sandbox: 7, PID: 100, Start: 1})
		if r.Signal == "metrics" {
			for agent, counts := range account {
				nothing[fmt.Sprintf("%s %s metric", Silent, agent)] += int(counts[Silent])
			}
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(nothing)) {
		fmt.Fprintf(&out, "%s %d\n", kind, nothing[kind])
	}
	return out.Bytes()
}

func writeStatement(w io.Writer, s *Statement, received time.Time) {
	fmt.Fprintf(w, "\t%s %+.3fs\n", s.Claim.Kind(), s.Time.Sub(received).Seconds())
	fmt.Fprintf(w, "\t\t%q\n", s.Claim.AppendBody(nil))
	for _, a := range s.Claim.AppendAttributes(nil) {
		value := a.Value.Text()
		if len(value) > 160 {
			value = value[:160] + "…"
		}
		if a.Key != event.ClaimReceived {
			fmt.Fprintf(w, "\t\t%s=%q\n", a.Key, value)
		}
	}
}
