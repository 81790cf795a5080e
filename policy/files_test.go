// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"os"
	"strings"
	"testing"

	"github.com/watchglass/watchglass/event"
)

func mustFiles(t testing.TB, cfg *FilesConfig) *Files {
	t.Helper()
	f, err := NewFiles(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestBuiltInClasses(t *testing.T) {
	text, err := os.ReadFile("testdata/classes.txt")
	if err != nil {
		t.Fatal(err)
	}
	files, lines := mustFiles(t, &FilesConfig{}), 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		lines++
		want, path, _ := strings.Cut(line, " ")
		path = strings.TrimLeft(path, " ")
		if got := files.Class(path); got != event.FileClass(want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if lines < 80 {
		t.Errorf("only %d lines of testdata were read", lines)
	}
}

func TestConfiguredClasses(t *testing.T) {
	files := mustFiles(t, &FilesConfig{
		Secrets:    []string{"/srv/vault/", "~/.tokens/*", "customers-*.csv", "node_modules/private/key.pem", "db/**/password"},
		NotSecrets: []string{"/srv/vault/public/**", "/home/dev/demo/.env"},
		Config:     []string{"/srv/agent/rules.yaml"},
		Allow:      []FileAllow{{Path: ".aws/credentials", Executable: "/usr/bin/aws"}, {Path: "/srv/vault/", Executable: "/opt/**"}},
	})
	for path, want := range map[string]event.FileClass{
		"/srv/vault/a/b":                   event.FileClassSecret,
		"/srv/vault/public/b":              event.FileClassOther,
		"/srv/vault":                       event.FileClassSecret, // ** is any number of elements, none included
		"/srv/vaults/a":                    event.FileClassOther,
		"/x/srv/vault/a":                   event.FileClassOther,
		"/any/home/.tokens/x":              event.FileClassSecret,
		"/any/home/.tokens/x/y":            event.FileClassOther,
		"/data/customers-2026.csv":         event.FileClassSecret,
		"/data/customers-2026.csv.gz":      event.FileClassOther,
		"/p/node_modules/private/key.pem":  event.FileClassSecret,
		"/p/node_modules/private2/key.pem": event.FileClassOther,
		"/p/db/password":                   event.FileClassSecret,
		"/p/db/a/b/password":               event.FileClassSecret,
		"/home/dev/demo/.env":              event.FileClassOther,
		"/home/dev/other/.env":             event.FileClassSecret,
		"/srv/agent/rules.yaml":            event.FileClassConfig,
	} {
		if got := files.Class(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	for _, c := range []struct {
		path, executable string
		want             bool
	}{
		{"/home/dev/.aws/credentials", "/usr/bin/aws", true},
		{"/home/dev/.aws/credentials", "/home/dev/bin/aws", false},
		{"/home/dev/.aws/credentials", "", false},
		{"/srv/vault/x", "/opt/backup/bin/run", true},
		{"/etc/shadow", "/usr/bin/aws", false},
	} {
		if got := files.SecretAllowed(c.path, c.executable); got != c.want {
			t.Errorf("SecretAllowed(%s, %s) = %t", c.path, c.executable, got)
		}
	}
}

func TestBadPatterns(t *testing.T) {
	for pattern, want := range map[string]string{
		"":                        "must not be empty",
		"a//b":                    "must not be empty",
		"**":                      "at least one element",
		"/":                       "at least one element",
		"/*/**":                   "at least one element",
		"a**b/c":                  "each a whole element",
		"a/**/b/**/c/**/d":        "at most two **",
		"../x":                    ". or ..",
		strings.Repeat("a/", 80):  "at most 4096 bytes and 64 elements",
		strings.Repeat("a", 5000): "at most 4096 bytes",
	} {
		cfg := FilesConfig{Secrets: []string{"/fine", pattern}}
		err := cfg.Validate()
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "files.secrets") {
			t.Errorf("%.40q: %v, want %q", pattern, err, want)
		}
	}
	err := (&FilesConfig{Allow: []FileAllow{{Path: ".env", Executable: "/usr/bin/x"}, {Path: ".env"}}}).Validate()
	if err == nil || !strings.Contains(err.Error(), "files.allow[1]: executable") {
		t.Errorf("an allow without an executable: %v", err)
	}
}

// FuzzPattern holds the index against the plain match: an index must find what its pattern matches,
// whatever map it was put in. Hostile paths must not make it slow or crash.
func FuzzPattern(f *testing.F) {
	f.Add(".env.*", "/home/dev/.env.local")
	f.Add("/etc/**/key", "/etc/a/b/key")
	f.Add("*.pem", "x.pem")
	f.Add("/srv/", "/srv/a")
	f.Add("a*b*c/**", "/xabc/d")
	f.Fuzz(func(t *testing.T, text, path string) {
		p, err := compile(text)
		if err != nil {
			return
		}
		x := newIndex()
		if err := x.add(3, text); err != nil {
			t.Fatal(err)
		}
		if alone, indexed := p.match(path), x.match(path) == 3; alone != indexed && path != "" {
			t.Errorf("pattern %q, path %q: alone %t, in an index %t", text, path, alone, indexed)
		}
	})
}

func TestClassAllocatesNothing(t *testing.T) {
	files := mustFiles(t, &FilesConfig{})
	for _, path := range benchmarkPaths() {
		if n := testing.AllocsPerRun(100, func() { files.Class(path) }); n != 0 {
			t.Errorf("%s: %v allocations", path, n)
		}
	}
}

func benchmarkPaths() []string {
	return []string{
		"/usr/lib/x86_64-linux-gnu/libc.so.6", "/home/dev/project/src/main.go", "/home/dev/.ssh/id_ed25519",
		"/proc/self/status", "/home/dev/project/node_modules/a/b/c/d/index.js", "/tmp/go-build1/b001/x.a",
		"/home/dev/project/node_modules/x/test/server.key", "/" + strings.Repeat("a/", 2000) + "b",
		"/" + strings.Repeat("a/", 2000) + "x.key", strings.Repeat("/node_modulesX", 300) + "/x.key",
	}
}

func BenchmarkClass(b *testing.B) {
	files := mustFiles(b, &FilesConfig{})
	for _, path := range benchmarkPaths() {
		name := path
		if len(name) > 60 {
			name = "…" + name[len(name)-20:]
		}
		b.Run(strings.TrimPrefix(strings.ReplaceAll(name, "/", "|"), "|"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				files.Class(path)
			}
		})
	}
}
