// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/sample"
)

func TestFilter(t *testing.T) {
	t.Parallel()
	exec := event.Encoded{Kind: event.KindProcessExec, Severity: event.SeverityInfo}
	finding := event.Encoded{Kind: event.KindFinding, Severity: event.SeverityHigh}
	loss := event.Encoded{Kind: event.KindLoss, Severity: event.SeverityWarn}
	for _, test := range []struct {
		filter Filter
		want   [3]bool
	}{
		{Filter{Kinds: []string{"watchglass.finding"}}, [3]bool{false, true, true}},
		{Filter{Kinds: []string{"watchglass.process.*", "watchglass.tool.call"}}, [3]bool{true, false, true}},
		{Filter{MinSeverity: "medium"}, [3]bool{false, true, true}},
		{Filter{MinSeverity: "critical"}, [3]bool{false, false, true}},
		{Filter{Kinds: []string{"*"}, MinSeverity: "info"}, [3]bool{true, true, true}},
	} {
		if err := test.filter.validate(); err != nil {
			t.Error(err)
		}
		wants := test.filter.Wants()
		if got := [3]bool{wants(&exec), wants(&finding), wants(&loss)}; got != test.want {
			t.Errorf("%+v lets through %v, want %v", test.filter, got, test.want)
		}
	}
	if (Filter{}).Wants() != nil {
		t.Error("a filter of nothing filters")
	}
	for _, wrong := range []Filter{{Kinds: []string{"finding"}}, {Kinds: []string{"[a"}}, {MinSeverity: "loud"}} {
		if wrong.validate() == nil {
			t.Errorf("%+v is taken for right", wrong)
		}
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	environment := func(name string) (string, bool) {
		value, ok := map[string]string{"TOKEN": "s3cret", "EMPTY": "", "BREAK": "s3cret\n"}[name]
		return value, ok
	}
	for value, want := range map[string]string{
		"plain": "plain", "Bearer ${env:TOKEN}": "Bearer s3cret", "${env:TOKEN}${env:TOKEN}": "s3crets3cret", "$env:TOKEN": "$env:TOKEN",
		"${env:NONE}": "", "${env:EMPTY}": "", "${env:TOKEN": "", "${env:}": "", "${env:BREAK}": "",
	} {
		got, err := Headers{"authorization": value}.expand(environment)
		switch {
		case want == "" && err == nil:
			t.Errorf("%s: expanded to %q, want an error", value, got["authorization"])
		case want != "" && got["authorization"] != want:
			t.Errorf("%s: expanded to %q (%v), want %q", value, got["authorization"], err, want)
		case err != nil && strings.Contains(err.Error(), "s3cret"):
			t.Errorf("%s: the error shows a secret: %v", value, err)
		}
	}
}

func TestHeadersFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "headers")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var s server
	cfg := s.start(t, ProtocolHTTP, nil)
	cfg.Headers, cfg.HeadersFile = Headers{"x-tenant": "blue", "x-both": "fixed"}, path
	for _, wrong := range []string{"no colon\n", "a b: c\n", "A: \x01s3cret\n", strings.Repeat("#", maxHeadersFile+1)} {
		write(wrong)
		if _, err := OpenLogs(cfg.LogsConfig("siem"), Settings{}); err == nil || !strings.Contains(err.Error(), "headers_file") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%.20q: got %v, want an error with headers_file and without the value", wrong, err)
		}
	}
	write("# of the vault\n\nAuthorization: Bearer one\r\nX-Both: file\n")
	l := open(t, cfg)
	for _, want := range []string{"Bearer one", "Bearer three"} {
		if _, err := l.Send(t.Context(), encode(sample.Events()[:1])); err != nil {
			t.Fatal(err)
		}
		got := [3]string{s.headers["authorization"][0], s.headers["x-tenant"][0], s.headers["x-both"][0]}
		if diff := cmp.Diff([3]string{want, "blue", "file"}, got); diff != "" {
			t.Error(diff)
		}
		write("Authorization: Bearer three\nx-both: file\n")
	}
}

// TestRenewal: certificates that are renewed on the disk are taken up by the next connection.
func TestRenewal(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols() {
		ours, others := newAuthority(t), newAuthority(t)
		var s server
		cfg := s.start(t, protocol, ours.config(t, time.Now().Add(time.Hour), true))
		dir := t.TempDir()
		cfg.TLS = TLS{CAFile: filepath.Join(dir, "ca"), CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key")}
		install := func(a *authority) {
			for to, from := range map[string]string{"ca": a.caFile, "cert": a.certFile, "key": a.keyFile} {
				text, err := os.ReadFile(from)
				if err != nil {
					t.Error(err)
				}
				if err := os.WriteFile(filepath.Join(dir, to), text, 0o600); err != nil {
					t.Error(err)
				}
			}
		}
		install(others)
		go func() {
			time.Sleep(100 * time.Millisecond)
			install(ours)
		}()
		taken(t, cfg, sample.Events()[:1])
	}
}

// TestFilterLetsCanariesPass: wherever findings of some severity go.
func TestFilterLetsCanariesPass(t *testing.T) {
	t.Parallel()
	canary := &event.Encoded{Kind: event.KindFinding, Severity: event.SeverityInfo, Record: []byte("x\x00" + event.CanaryRuleID + "y")}
	other := &event.Encoded{Kind: event.KindFinding, Severity: event.SeverityInfo, Record: []byte("secret-read")}
	for _, c := range []struct {
		filter             Filter
		wantCanary, wantIt bool
	}{
		{Filter{MinSeverity: "high"}, true, false},
		{Filter{Kinds: []string{"watchglass.finding"}, MinSeverity: "critical"}, true, false},
		{Filter{Kinds: []string{"watchglass.process.*"}}, false, false},
		{Filter{MinSeverity: "info"}, true, true},
	} {
		wants := c.filter.Wants()
		if wants(canary) != c.wantCanary || wants(other) != c.wantIt {
			t.Errorf("%+v: canary %v, other %v", c.filter, wants(canary), wants(other))
		}
	}
}

// FuzzHeaders: what a headers file, a value or an answer says is taken whole or refused, and never shown.
func FuzzHeaders(f *testing.F) {
	f.Add("# of the vault\n\nAuthorization: Bearer one\r\nX-Both: file\n")
	f.Add("Bearer ${env:TOKEN}")
	f.Add("${env:")
	f.Add("Wed, 21 Oct 2026 07:28:00 GMT")
	f.Add("120")
	f.Fuzz(func(t *testing.T, text string) {
		headers, err := parseHeaders(text)
		for name, value := range headers {
			if !validHeader(name, value) {
				t.Errorf("%q: %q cannot be sent", name, value)
			}
		}
		if err != nil && headers != nil {
			t.Error("half a file was taken")
		}
		expanded, err := Headers{"a": text}.expand(func(string) (string, bool) { return "s3cret", true })
		if err != nil && strings.Contains(err.Error(), "s3cret") && !strings.Contains(text, "s3cret") {
			t.Errorf("the error shows a secret: %v", err)
		}
		if err == nil && !validHeader("a", expanded["a"]) {
			t.Errorf("%q cannot be sent", expanded["a"])
		}
		if wait := retryAfter(text, sample.Start()); wait < 0 || wait > maxRetryAfter {
			t.Errorf("%q is %v", text, wait)
		}
	})
}
