// SPDX-License-Identifier: Apache-2.0

package session

import (
	"strings"
	"testing"
)

func TestExecuted(t *testing.T) {
	const snapshot = "source /home/dev/.claude/shell-snapshots/snapshot-bash-1795427116552-y7sb9r.sh 2>/dev/null || true && shopt -u extglob 2>/dev/null || true && "
	for _, test := range []struct {
		name    string
		args    []string
		want    string
		wrapped bool
	}{
		{"a plain command", []string{"ls", "-la"}, "ls -la", false},
		{"opencode, codex", []string{"/bin/bash", "-c", "ls -la"}, "ls -la", false},
		{"a login shell", []string{"bash", "-lc", "make  test"}, "make test", false},
		{"options after -c", []string{"/bin/bash", "-c", "-l", "echo hi"}, "echo hi", false},
		{"a script file", []string{"/bin/bash", "run.sh", "-c", "x"}, "/bin/bash run.sh -c x", false},
		{"claude", []string{"/bin/bash", "-c", snapshot + "eval 'ls -la' < /dev/null && pwd -P >| /tmp/claude-1f-cwd"}, "ls -la", true},
		{
			"claude with quotes",
			[]string{"/bin/bash", "-c", snapshot + `eval 'printf '\''hello\n'\'' > note.txt && cat note.txt' < /dev/null && pwd -P >| /tmp/claude-1f-cwd`},
			`printf 'hello\n' > note.txt && cat note.txt`, true,
		},
		{
			"claude with other quotes",
			[]string{"/bin/bash", "-c", snapshot + `eval 'echo '"'"'a b'"'"' | wc' && pwd -P >| /tmp/claude-1f-cwd`},
			"echo 'a b' | wc", true,
		},
		{
			"claude around an eval",
			[]string{"/bin/bash", "-c", snapshot + `eval 'eval "$(ssh-agent)"' < /dev/null && pwd -P >| /tmp/claude-1f-cwd`},
			`eval "$(ssh-agent)"`, true,
		},
		{"an eval of somebody else", []string{"/bin/bash", "-c", "eval 'ls'"}, "eval 'ls'", false},
		{
			"gemini",
			[]string{"/usr/bin/bash", "-c", "shopt -u promptvars nullglob; _bgpids_file=/tmp/gemini-shell-IDdxVz/bgpids.tmp\n(\n  trap 'jobs -p > \"$_bgpids_file\"' EXIT\nsh probe.sh\n)\n__code=$?\nexit $__code"},
			"sh probe.sh", true,
		},
		{
			"gemini around a subshell",
			[]string{"bash", "-c", "_bgpids_file=/tmp/x\n( trap 'jobs -p > \"$_bgpids_file\"' EXIT (sleep 30 &) ; exit 7 ) __code=$? exit $__code"},
			"(sleep 30 &) ; exit 7", true,
		},
		{"gemini before", []string{"bash", "-c", "{ npm test; }; __code=$?; pgrep -g 0 >/tmp/p; exit $__code;"}, "npm test", true},
	} {
		if got := executed(test.args, false); got.text != test.want || got.wrapped != test.wrapped {
			t.Errorf("%s: %q (wrapped %t), want %q", test.name, got.text, got.wrapped, test.want)
		}
	}
}

func TestSameCommand(t *testing.T) {
	long := strings.Repeat("echo hello; ", 1000)
	for _, test := range []struct {
		a, b command
		want bool
	}{
		{said("ls  -la\n"), executed([]string{"bash", "-c", "ls -la < /dev/null"}, false), true},
		{said("ls -la"), said("ls -l"), false},
		{said(""), said(""), false},
		{said(long), executed([]string{"bash", "-c", long[:200]}, true), true},
		{said("ls -la"), command{text: "ls", cut: true}, false},
		{said("ls -la"), executed([]string{"bash", "-c", "rm -rf /"}, false), false},
	} {
		if got := test.a.same(test.b); got != test.want || test.b.same(test.a) != got {
			t.Errorf("%.40q, %.40q: %t", test.a.text, test.b.text, got)
		}
	}
	if c := said(long); len(c.text) > maxCommand || !c.cut {
		t.Errorf("kept %d bytes, cut %t", len(c.text), c.cut)
	}
}

// FuzzExecuted takes hostile arguments: whatever they are, what is kept is bounded.
func FuzzExecuted(f *testing.F) {
	f.Add("/bin/bash", "-c", "source x && eval 'ls -la' < /dev/null && pwd -P >| /tmp/claude-1f-cwd")
	f.Add("bash", "-c", "_bgpids_file=/tmp/x ( trap 'jobs -p > \"$_bgpids_file\"' EXIT ls ) __code=$? exit $__code")
	f.Add("bash", "-lc", "eval '"+strings.Repeat("eval ' ", 100))
	f.Add("bash", "-c", `eval "\"\\\$x" && pwd -P >| x`)
	f.Fuzz(func(t *testing.T, a, b, c string) {
		got := executed([]string{a, b, c}, false)
		if len(got.text) > maxCommand {
			t.Fatalf("kept %d bytes", len(got.text))
		}
	})
}
