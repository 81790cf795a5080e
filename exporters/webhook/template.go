// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"os"
	"strings"
	"text/template"
	"time"
	"unicode/utf8"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

//go:embed json.tmpl
var jsonTemplate string

//go:embed slack.tmpl
var slackTemplate string

// Bounds of what a template gets and makes.
const (
	maxText     = 2048
	maxListed   = 32
	maxDocument = 256 << 10
)

// Finding is what a template sees. Texts come from the sandbox: they hold no control characters any more,
// but quotes, markup and whatever else is visible. Write them with json, or with slack and then json.
type Finding struct {
	// UID is unique per notification; a repetition after a failure has the same.
	UID, ID string
	// Status is new, update or resolved; Severity info, low, medium, high or critical.
	Status, Severity string
	// Rule is the detector's id, RuleTitle what it finds.
	Rule, RuleTitle string
	// Title is one line, Explanation sentences.
	Title, Explanation        string
	Objects, Evidence         []string
	Attack, OWASP             []string
	Count                     int
	Time                      time.Time
	Host                      string
	Sandbox, SandboxName      string
	Agent, Session            string
	Tool, ToolCall, Approval  string
	Process, ProcessUID, Path string
	PID, UserID               uint32
	// Confidence is how sure the detector is: high, medium, low. Chain is the processes, the oldest first; Next what to
	// check next.
	Confidence  string
	Chain, Next []string
	// Prompt is the beginning of the prompt, Command the call's command line, ApprovalState and Decider its approval: as
	// the agent says, and "" while nothing is known. Prompt is "" unless prompts are told.
	Prompt, Command        string
	ApprovalState, Decider string
	Runbook                string
	// Suppressed is how many findings were not told since the last one that was, because there were too many.
	Suppressed uint64
	// Canary is true for the finding that only proves that findings arrive.
	Canary bool
}

// newFinding is a finding as templates see it.
func (e *Exporter) newFinding(ev *event.Event, f *event.Finding) *Finding {
	text := func(s string) string { return exporters.PrintableUpTo(s, maxText) }
	list := func(values []string) []string {
		out := make([]string, 0, min(len(values), maxListed))
		for _, s := range values[:min(len(values), maxListed)] {
			out = append(out, text(s))
		}
		return out
	}
	d := &Finding{
		UID: ev.UID(), ID: f.ID, Status: string(f.State), Severity: f.Severity().FindingName(),
		Rule: f.Rule.ID, RuleTitle: f.Rule.Title, Title: text(f.Title), Explanation: text(f.Explanation),
		Objects: list(f.Objects), Evidence: list(f.Evidence), Attack: list(f.Rule.Attack), OWASP: list(f.Rule.ASI),
		Count: f.Count, Time: ev.Time.UTC(), Host: e.host, Canary: f.Canary(),
	}
	d.Confidence, d.Chain, d.Next = string(f.Confidence()), list(f.Chain), list(f.Rule.Next)
	if c := f.Context; c != nil {
		d.Prompt, d.Command, d.ApprovalState, d.Decider = text(c.Prompt), text(c.Command), string(c.Approval), text(c.Decider)
	}
	if f.Rule.Runbook != "" {
		d.Runbook = e.cfg.RunbookURL + f.Rule.Runbook
	}
	if s := ev.Sandbox; s != nil {
		d.Sandbox, d.SandboxName = s.ID, text(s.Name)
	}
	if p := ev.Process; p != nil {
		d.Process, d.ProcessUID, d.Path, d.PID = text(p.Name), p.UID.String(), text(p.Executable), p.PID
		d.UserID = p.UserID
		if a := p.Agent; a != nil {
			d.Agent, d.Session, d.Tool, d.ToolCall, d.Approval = text(a.Name), text(a.SessionID), text(a.Tool), text(a.CallID), text(a.Approval)
		}
	}
	return d
}

// functions is what templates can call beside text/template's own.
func functions() template.FuncMap {
	return template.FuncMap{
		// json is any value as JSON: a text with its quotes.
		"json": func(v any) (string, error) {
			var out bytes.Buffer
			encoder := json.NewEncoder(&out)
			encoder.SetEscapeHTML(false)
			if err := encoder.Encode(v); err != nil {
				return "", fmt.Errorf("write as JSON: %w", err)
			}
			return strings.TrimSuffix(out.String(), "\n"), nil
		},
		// slack takes from a text what Slack would take for a link, a mention or a channel.
		"slack": func(s string) string { return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s) },
		"upper": strings.ToUpper,
		"join":  func(separator string, list []string) string { return strings.Join(list, separator) },
		"truncate": func(limit int, s string) string {
			if limit < 0 || utf8.RuneCountInString(s) <= limit {
				return s
			}
			return string([]rune(s)[:limit]) + "…"
		},
	}
}

// parseTemplate makes the template and tries it on a hostile finding: what does not escape is found now.
func parseTemplate(cfg Config) (*template.Template, error) {
	text := ""
	switch cfg.Template {
	case TemplateJSON:
		text = jsonTemplate
	case TemplateSlack:
		text = slackTemplate
	default:
		file, err := os.ReadFile(cfg.Template)
		if err != nil {
			return nil, fmt.Errorf("read the template: %w", err)
		}
		text = string(file)
	}
	t, err := template.New("webhook").Option("missingkey=error").Funcs(functions()).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("read the template: %w", err)
	}
	const hostile = `" } ] \ ' <!channel> {{ .Title }} \u{202e}`
	trial := &Finding{
		UID: hostile, ID: hostile, Title: hostile, Explanation: hostile, Objects: []string{hostile, hostile}, Evidence: []string{hostile},
		Rule: hostile, RuleTitle: hostile, Severity: "high", Status: "new", Host: hostile, SandboxName: hostile, Agent: hostile,
		Session: hostile, Tool: hostile, ToolCall: hostile, Approval: hostile, Process: hostile, Path: hostile, Runbook: hostile, Suppressed: 3,
	}
	for _, f := range []*Finding{trial, {}, {Canary: true}} {
		if _, err := render(t, cfg, f); err != nil {
			return nil, fmt.Errorf("try the template on a finding of an adversary: %w", err)
		}
	}
	return t, nil
}

// errNotJSON is what a template makes that does not escape.
var errNotJSON = errors.New(`the template does not make JSON: write every text with json, as in {{ json .Title }}`)

// render makes the document of a finding.
func render(t *template.Template, cfg Config, f *Finding) ([]byte, error) {
	var out bytes.Buffer
	if err := t.Execute(limited{&out}, f); err != nil {
		return nil, err
	}
	body := bytes.TrimSpace(out.Bytes())
	if kind, _, err := mime.ParseMediaType(cfg.ContentType); err == nil && kind == "application/json" && !json.Valid(body) {
		return nil, errNotJSON
	}
	return body, nil
}

// limited is a buffer that does not grow without a bound.
type limited struct{ *bytes.Buffer }

// Write implements io.Writer.
func (l limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxDocument {
		return 0, fmt.Errorf("the document is larger than %d bytes", maxDocument)
	}
	return l.Buffer.Write(p)
}
