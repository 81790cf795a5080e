// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
	"github.com/tailscale/hujson"
)

func settings() Settings {
	return Settings{Endpoint: "http://127.0.0.1:4318", Hook: "/usr/local/bin/watchglass hook"}
}

const codexConfig = `# My Codex.
model = "gpt-5.4"            # the good one
approval_policy = "on-request"

[mcp_servers.docs]
command = "docs-server"
args = [
  "--port", "8080",
]

[projects."/srv/project"]
trust_level = "trusted"
`

const codexOwn = tomlBegin + `
[otel]
log_user_prompt = false
exporter = { otlp-http = { endpoint = "http://127.0.0.1:4318/v1/logs", protocol = "binary" } }
trace_exporter = { otlp-http = { endpoint = "http://127.0.0.1:4318/v1/traces", protocol = "binary" } }
metrics_exporter = { otlp-http = { endpoint = "http://127.0.0.1:4318/v1/metrics", protocol = "binary" } }
` + tomlEnd + "\n"

func TestCodexConfig(t *testing.T) {
	own := strings.Replace(codexOwn, "[otel]\n", "", 1)
	for name, test := range map[string]struct{ old, want string }{
		"no file":       {"", codexOwn},
		"other tables":  {codexConfig, codexConfig + "\n" + codexOwn},
		"no line's end": {"model = \"x\"", "model = \"x\"\n\n" + codexOwn},
		"a table of theirs": {
			"[otel] # ours\nenvironment = \"dev\"\nexporter = \"none\"\n[tui]\nexporter = 1\n",
			"[otel] # ours\n" + own + "environment = \"dev\"\n" + tomlAside + "exporter = \"none\"\n[tui]\nexporter = 1\n",
		},
		"a setting of many lines": {
			"[otel]\nexporter = { otlp-grpc = {\n  endpoint = \"x\", # here\n} }\nlog_user_prompt = true\nenvironment = \"dev\"",
			"[otel]\n" + own + tomlAside + "exporter = { otlp-grpc = {\n" + tomlAside + "  endpoint = \"x\", # here\n" + tomlAside + "} }\n" +
				tomlAside + "log_user_prompt = true\nenvironment = \"dev\"",
		},
		"a dotted setting":    {"[otel]\nexporter.otlp-grpc.endpoint = \"x\"\n", "[otel]\n" + own + tomlAside + "exporter.otlp-grpc.endpoint = \"x\"\n"},
		"another table below": {"[otel.span_attributes]\na = \"b\"\n", "[otel.span_attributes]\na = \"b\"\n\n" + codexOwn},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings()
			keys := []string{"log_user_prompt", "exporter", "trace_exporter", "metrics_exporter"}
			apply := func(old string) string {
				t.Helper()
				got, err := codex().files(Places{})[0].apply([]byte(old), &s)
				if err != nil {
					t.Fatal(err)
				}
				return string(got)
			}
			got := apply(test.old)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if again := apply(got); again != got {
				t.Errorf("the second time it changes: %s", cmp.Diff(got, again))
			}
			var decoded struct {
				Otel map[string]any `toml:"otel"`
			}
			if err := toml.Unmarshal([]byte(got), &decoded); err != nil {
				t.Fatal(err)
			}
			for _, key := range keys {
				if decoded.Otel[key] == nil {
					t.Errorf("otel.%s is not set", key)
				}
			}
			gone, err := removeTOML([]byte(got))
			if err != nil || strings.TrimRight(string(gone), "\n") != strings.TrimRight(test.old, "\n") {
				t.Errorf("taken out again, %v: %s", err, cmp.Diff(test.old, string(gone)))
			}
		})
	}
}

func TestCodexConfigRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"model = \n":                           "f:1: ",
		"a = 1\nb = [1,\nc = 2\n":              "f:3: ",
		"a = 1\na = 2\n":                       "f:2: ",
		"otel = { exporter = \"none\" }\n":     "f:1: otel: is not written as [otel]",
		"x = 1\notel.exporter = \"none\"\n":    "f:2: otel.exporter: is not written as [otel]",
		"[otel]\n[otel.exporter.otlp-http]\n":  "f:2: otel.exporter.otlp-http: is set as a table of its own",
		"[[otel]]\n":                           "f:1: otel: is a list of tables",
		"x = 1\n" + tomlBegin + "\n[otel]\n":   "f:2: what begins here has no end",
		"\xff = 1\n":                           "f:",
		"s = \"\"\"\n" + tomlEnd + "\n\"\"\"1": "f:3: ",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "config.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := codex().Plan(Places{Codex: dir}, settings())
		if err == nil || !strings.HasPrefix(strings.Replace(err.Error(), path, "f", 1), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

const claudeSettings = `{
    // The team's.
    "permissions": {"allow": ["Bash(make:*)"]},
    "env": {"EDITOR": "true", "OTEL_LOG_USER_PROMPTS": "1"},
    "hooks": {
        "PreToolUse": [
            {"matcher": "Bash", "hooks": [{"type": "command", "command": "guard"}]}, // ask the guard
        ],
        "Stop": []
    },
    "model": "opus" /* dear */
    // the end
}
`

func TestClaudeSettings(t *testing.T) {
	s := settings()
	f := claudeCode().files(Places{})[0]
	got, err := f.apply([]byte(claudeSettings), &s)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(claudeSettings), "\n") {
		if line = strings.TrimRight(strings.TrimSpace(line), ",}]"); !strings.Contains(string(got), line) && !strings.Contains(line, `"env"`) && line != `"Stop": [` {
			t.Errorf("%s is gone", line)
		}
	}
	var decoded struct {
		Permissions map[string]any
		Model       string
		Env         map[string]string
		Hooks       map[string][]struct {
			Matcher string
			Hooks   []struct{ Type, Command string }
		}
	}
	decode(t, got, &decoded)
	if decoded.Env["EDITOR"] != "true" || decoded.Env["OTEL_EXPORTER_OTLP_ENDPOINT"] != "http://127.0.0.1:4318" ||
		decoded.Env["OTEL_LOG_TOOL_DETAILS"] != "1" || decoded.Env["OTEL_LOG_USER_PROMPTS"] != "" {
		t.Errorf("env %v", decoded.Env)
	}
	if decoded.Model != "opus" || decoded.Permissions == nil {
		t.Errorf("%+v", decoded)
	}
	if before := decoded.Hooks["PreToolUse"]; len(before) != 2 || before[0].Hooks[0].Command != "guard" || before[1].Matcher != "*" ||
		before[1].Hooks[0].Command != "/usr/local/bin/watchglass hook --agent claude-code" {
		t.Errorf("PreToolUse %+v", before)
	}
	if len(decoded.Hooks) != 9 || len(decoded.Hooks["Stop"]) != 1 || len(decoded.Hooks["PostToolUseFailure"]) != 1 {
		t.Errorf("hooks %+v", decoded.Hooks)
	}
	again, err := f.apply(got, &s)
	if err != nil || string(again) != string(got) {
		t.Errorf("the second time it changes, %v: %s", err, cmp.Diff(string(got), string(again)))
	}
	gone, err := f.remove(got)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(gone); strings.Contains(text, "watchglass") || strings.Contains(text, "OTEL") || !strings.Contains(text, "ask the guard") ||
		!strings.Contains(text, "// the end") || !strings.Contains(text, "/* dear */") {
		t.Errorf("taken out again: %s", text)
	}
	decode(t, gone, &decoded)
}

func decode(t *testing.T, text []byte, v any) {
	t.Helper()
	plain, err := hujson.Standardize(bytes.Clone(text)) // which writes over what it is given
	if err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	if err := json.Unmarshal(plain, v); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
}

// Each agent's files, from nothing: plain JSON that a strict reader takes, the same the second time, nothing left
// when it is taken out again; and what a setting is changed to is changed.
func TestFromNothing(t *testing.T) {
	for _, a := range Agents() {
		for _, f := range a.files(Places{Home: "/home/dev"}) {
			t.Run(a.Name+"/"+filepath.Base(f.path), func(t *testing.T) {
				s := settings()
				got, err := f.apply(nil, &s)
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasSuffix(f.path, ".json") && (!json.Valid(got) || !strings.HasPrefix(string(got), "{\n  \"") || !strings.HasSuffix(string(got), "\n}\n")) {
					t.Errorf("%s", got)
				}
				if again, err := f.apply(got, &s); err != nil || string(again) != string(got) {
					t.Errorf("the second time, %v: %s", err, again)
				}
				moved := Settings{Endpoint: "http://10.0.0.1:4318/", Hook: "/opt/watchglass hook --socket /s", Prompts: true}
				other, err := f.apply(got, &moved)
				if err != nil || strings.Contains(string(other), "127.0.0.1") || strings.Contains(string(other), "/usr/local") {
					t.Errorf("changed, %v: %s", err, other)
				}
				if clean, err := f.apply(nil, &moved); err != nil || string(clean) != string(other) {
					t.Errorf("changed it is not as made: %s", cmp.Diff(string(clean), string(other)))
				}
				if gone, err := f.remove(other); err != nil || gone != nil {
					t.Errorf("taken out again, %v: %s", err, gone)
				}
				if none, err := f.apply(got, &Settings{}); err != nil || none != nil {
					t.Errorf("neither OTLP nor hooks, %v: %s", err, none)
				}
			})
		}
	}
}

func TestPluginOfSomebodyElse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "opencode", "plugin", "watchglass.js")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("export const Mine = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openCode().Plan(Places{XDG: dir}, settings()); err == nil || !strings.HasPrefix(err.Error(), path+":1: ") {
		t.Errorf("planned: %v", err)
	}
	if _, err := openCode().PlanRemoval(Places{XDG: dir}); err == nil {
		t.Error("removed")
	}
}

// The plugin starts its command without a shell, so that the command line has to be taken apart here.
func TestPluginCommand(t *testing.T) {
	for line, want := range map[string]string{
		"/usr/bin/watchglass hook":                    `["/usr/bin/watchglass","hook","--agent","opencode"]`,
		`'/opt/it'\''s here/watchglass' hook`:         `["/opt/it's here/watchglass","hook","--agent","opencode"]`,
		`'/opt/"</script>\' hook --socket ''  '/a b'`: `["/opt/\"\u003c/script\u003e\\","hook","--socket","","/a b","--agent","opencode"]`,
	} {
		s := Settings{Hook: line}
		text, err := plugin("x", "opencode").apply(nil, &s)
		if err != nil || !strings.Contains(string(text), "const command = "+want+"\n") {
			t.Errorf("%s: %v:\n%s", line, err, text)
		}
	}
	if _, err := plugin("x", "opencode").apply(nil, &Settings{Hook: "'/a hook"}); err == nil {
		t.Error("a quote that is not closed is taken")
	}
}

func TestNPMSettings(t *testing.T) {
	for old, want := range map[string]string{
		"":                             npmSettings,
		"registry=https://npm.example": "registry=https://npm.example\n" + npmSettings,
		"fetch-retry-maxtimeout=5\n":   "fetch-retry-maxtimeout=5\n",
		npmSettings + "registry=https://a.example": "registry=https://a.example\n" + npmSettings,
	} {
		s := settings()
		got, err := npm("x").apply([]byte(old), &s)
		if err != nil || string(got) != want {
			t.Errorf("%q: %v: %q, want %q", old, err, got, want)
		}
		gone, err := npm("x").remove(got)
		if err != nil || strings.TrimSpace(string(gone)) != strings.TrimSpace(strings.Replace(old, npmSettings, "", 1)) {
			t.Errorf("%q taken out again: %v: %q", old, err, gone)
		}
	}
}

func TestJSONRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"{\n\"a\": }":                      "f:2: ",
		"{\"env\": {}":                     "f:1: ",
		"[]":                               "f:1: is no JSON object",
		"\n\n\"x\"":                        "f:3: is no JSON object",
		"{\n\n\"env\": [\"A=b\"]}":         "f:3: env is no object",
		"{\"hooks\":\n{\"Stop\":\n\"x\"}}": "f:3: hooks.Stop is no list",
		"{\"hooks\": true}":                "f:1: hooks is no object",
		"\x00":                             "f:1: ",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "settings.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := claudeCode().Plan(Places{Claude: dir}, settings())
		if err == nil || !strings.HasPrefix(strings.Replace(err.Error(), path, "f", 1), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestSetKeepsTheRest(t *testing.T) {
	for name, test := range map[string]struct{ old, want string }{
		"empty":              {"{}", "{\n  \"a\": {\n    \"b\": 1\n  }\n}"},
		"on one line":        {`{"x": 1}`, `{"x": 1, "a": {"b": 1}}`},
		"tabs":               {"{\n\t\"x\": 1\n}\n", "{\n\t\"x\": 1,\n\t\"a\": {\n\t\t\"b\": 1\n\t}\n}\n"},
		"a trailing comma":   {"{\n  \"x\": 1,\n}\n", "{\n  \"x\": 1,\n  \"a\": {\n    \"b\": 1\n  },\n}\n"},
		"a comment after":    {"{\n  \"x\": 1 // one\n}\n", "{\n  \"x\": 1, // one\n  \"a\": {\n    \"b\": 1\n  }\n}\n"},
		"it is there":        {"{ \"a\" : {\"b\":1} }", "{ \"a\" : {\"b\":1} }"},
		"another value":      {"{ \"a\" : {\"b\": 2 /* two */ } }", "{ \"a\" : {\"b\": 1 /* two */ } }"},
		"twice: last counts": {`{"a": 1, "a": {"b": 3}}`, `{"a": 1, "a": {"b": 1}}`},
	} {
		d, err := parseJSON([]byte(test.old))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.set(1, "a", "b"); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := string(d.bytes())
		if name == "on one line" {
			got = strings.ReplaceAll(strings.ReplaceAll(got, "\n    ", ""), "\n  }", "}")
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "dotfiles.toml"), filepath.Join(dir, "config.toml")
	if err := os.WriteFile(real, []byte("model = \"x\"\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	changes, err := codex().Plan(Places{Codex: dir}, settings())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range changes {
		backup, err := c.Write(now)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(c.Path); err != nil || string(text) != string(c.New) {
			t.Errorf("%s: %v, %s", c.Path, err, text)
		}
		info, err := os.Stat(c.Path)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case c.Old == nil && (backup != "" || info.Mode().Perm() != 0o600):
			t.Errorf("a new file: backup %q, mode %v", backup, info.Mode())
		case c.Old != nil && (backup != real+".before-watchglass-20260501T120000Z" || info.Mode().Perm() != 0o640):
			t.Errorf("a changed file: backup %q, mode %v", backup, info.Mode())
		case c.Old != nil:
			if text, err := os.ReadFile(backup); err != nil || string(text) != string(c.Old) {
				t.Errorf("the backup: %v, %s", err, text)
			}
		}
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is none any more: %v, %v", info, err)
	}
	if state := codex().Look(Places{Codex: dir}, settings()); !state.SetUp || state.Err != nil || len(state.Paths) != 2 {
		t.Errorf("%+v", state)
	}
	changes, err = codex().PlanRemoval(Places{Codex: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if _, err := c.Write(now.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(link); err != nil || string(text) != "model = \"x\"\n" {
		t.Errorf("afterwards: %v, %s", err, text)
	}
	if _, err := os.Stat(filepath.Join(dir, "hooks.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file of ours alone stays: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSettingsRefused(t *testing.T) {
	for _, endpoint := range []string{"127.0.0.1:4318", "unix:///run/x", "http://", "http://a/?q", "\x7f"} {
		if _, err := codex().Plan(Places{Codex: t.TempDir()}, Settings{Endpoint: endpoint}); err == nil {
			t.Errorf("endpoint %q: no error", endpoint)
		}
	}
	if _, err := codex().Plan(Places{Codex: t.TempDir()}, Settings{Hook: "a\nb"}); err == nil {
		t.Error("a hook of two lines: no error")
	}
	if _, err := Find("vim"); err == nil || !strings.Contains(err.Error(), "codex, claude, gemini, opencode") {
		t.Errorf("vim: %v", err)
	}
	for _, name := range []string{"claude", "claude-code", "gemini-cli", "opencode"} {
		if _, err := Find(name); err != nil {
			t.Error(err)
		}
	}
}

// Whatever a file holds: an error and the file as it was, or one that reads, says what it should, and says it again.
func FuzzTOML(f *testing.F) {
	f.Add(codexConfig)
	f.Add("[otel]\nexporter = [ 1,\n2 ]\n\"log_user_prompt\" = '''\na'''\n")
	f.Add(codexConfig + "\n" + codexOwn)
	f.Fuzz(func(t *testing.T, text string) {
		s := settings()
		file := codex().files(Places{})[0]
		got, err := file.apply([]byte(text), &s)
		if err != nil {
			return
		}
		again, err := file.apply(got, &s)
		if err != nil || string(again) != string(got) {
			t.Errorf("%q: the second time %q, %v", got, again, err)
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add(claudeSettings)
	f.Add(`{"hooks": {"Stop": [{"hooks": [{"command": "/x hook --agent claude-code"}, {"command": "y"}]}]}}`)
	f.Add(`{"env":{},}`)
	f.Fuzz(func(t *testing.T, text string) {
		s := settings()
		file := claudeCode().files(Places{})[0]
		got, err := file.apply([]byte(text), &s)
		if err != nil {
			return
		}
		if _, err := hujson.Parse(got); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		again, err := file.apply(got, &s)
		if err != nil || string(again) != string(got) {
			t.Errorf("%q: the second time %q, %v", got, again, err)
		}
		if gone, err := file.remove(got); err != nil {
			t.Errorf("%q: %v", gone, err)
		}
	})
}
