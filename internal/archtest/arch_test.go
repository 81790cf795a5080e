// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/watchglass/watchglass/"

// file is one Go source of the project. Its path is relative to the project's root, with slashes.
type file struct {
	path    string
	tree    *ast.File
	fset    *token.FileSet
	imports []string
}

func (f *file) test() bool { return strings.HasSuffix(f.path, "_test.go") }

func (f *file) generated() bool { return ast.IsGenerated(f.tree) }

// in says whether the file is in one of the directories or below.
func (f *file) in(dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasPrefix(f.path, dir+"/") })
}

const root = "../.."

// paths is every file of the project but what git ignores and what others wrote.
func paths(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			switch relative {
			case ".git", "bin", "tmp", ".cache", "headers", "LICENSES":
				return fs.SkipDir
			}
			return nil
		}
		switch filepath.Ext(path) {
		case ".test", ".prof", ".tmp":
			return nil
		}
		all = append(all, filepath.ToSlash(relative))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func sources(t *testing.T) []*file {
	t.Helper()
	var files []*file
	for _, path := range paths(t) {
		if !strings.HasSuffix(path, ".go") || strings.Contains(path, "/testdata/") {
			continue
		}
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, filepath.Join(root, path), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		f := &file{path: path, tree: tree, fset: fset}
		for _, spec := range tree.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			f.imports = append(f.imports, name)
		}
		files = append(files, f)
	}
	if len(files) < 20 {
		t.Fatalf("only %d sources found below %s", len(files), root)
	}
	return files
}

// layers is the one-way rule: which of the project's packages each directory's code may import.
// Tests may import more, since nobody imports them.
var layers = []struct {
	dir     string
	allowed []string
	reason  string
}{
	{"event", nil, "the vocabulary is everybody's: it knows nobody"},
	{"policy", []string{"event"}, "what may be done is said in events alone, so that any front end can ask"},
	{"detectors", []string{"event"}, "a detector that reads only events can be tested by a timeline and run on recorded ones"},
	{"exporters", []string{"event", "exporters"}, "an exporter that knows only events needs no change for a new one"},
	{"bpf", []string{"event"}, "the kernel boundary does not know who reads its records"},
	{"collector", []string{"event", "bpf", "collector"}, "the pipeline knows interfaces of detectors and exporters, not the things"},
}

func TestImportsGoOneWay(t *testing.T) {
	for _, f := range sources(t) {
		if f.test() {
			continue
		}
		for _, layer := range layers {
			if !f.in(layer.dir) {
				continue
			}
			for _, name := range f.imports {
				own, ok := strings.CutPrefix(name, module)
				if !ok || strings.HasPrefix(own, "internal/") && layer.dir != "event" {
					continue
				}
				top, _, _ := strings.Cut(own, "/")
				if !slices.Contains(layer.allowed, top) && !strings.HasPrefix(own+"/", layer.dir+"/") {
					t.Errorf("%s imports %s: %s", f.path, own, layer.reason)
				}
			}
		}
	}
}

// monopolies is what only some directories may import.
var monopolies = []struct {
	prefix  string
	allowed []string
	reason  string
}{
	{"github.com/cilium/ebpf", []string{"bpf"}, "one package is the kernel boundary"},
	{"go.opentelemetry.io", []string{"exporters", "collector/agent", "test"}, "telemetry's formats are the exporters' and the receiver's"},
	{"github.com/prometheus", []string{"exporters", "test", "dashboards"}, "metrics are defined once, in exporters"},
	{"github.com/containerd", []string{"collector/sandbox", "test"}, "what a cgroup is and counts is known in one place"},
	{"github.com/spf13", []string{"cmd"}, "flags are the command's"},
	{"cel.dev", []string{"detectors/rules"}, "what rules can say is decided in one place"},
	{"flag", []string{"cmd", "test", "internal"}, "flags are the command's"},
	{"os/signal", []string{"cmd", "test"}, "signals are the command's"},
	{"unsafe", []string{"bpf"}, "memory is looked at in one place, where the kernel's bytes become values"},
	{"go.yaml.in", []string{"cmd", "test", "dashboards", "detectors"}, "configuration files are the command's; packages define what is in them"},
}

func TestMonopolies(t *testing.T) {
	for _, f := range sources(t) {
		if f.test() || f.generated() {
			continue
		}
		for _, m := range monopolies {
			for _, name := range f.imports {
				if (name == m.prefix || strings.HasPrefix(name, m.prefix+"/")) && !f.in(m.allowed...) {
					t.Errorf("%s imports %s: %s", f.path, name, m.reason)
				}
			}
		}
		if slices.Contains(f.imports, "unsafe") && f.path != "bpf/decode.go" {
			t.Errorf("%s imports unsafe: only bpf/decode.go may, so that there is one place to check lengths", f.path)
		}
	}
}

// pure says of a directory that its code is logic alone: it needs nothing but the standard library.
func pure(dir string) bool { return slices.Contains([]string{"event", "policy", "detectors"}, dir) }

// exceptions is the directories in a pure one that need their field's libraries.
func exceptions(dir string) []string {
	if dir == "detectors" {
		return []string{"detectors/rules"} // rules are text: YAML, and CEL in it
	}
	return nil
}

func TestVocabularyNeedsOnlyTheStandardLibrary(t *testing.T) {
	for _, f := range sources(t) {
		if top, _, _ := strings.Cut(f.path, "/"); f.test() || !pure(top) || f.in(exceptions(top)...) {
			continue
		}
		for _, name := range f.imports {
			if first, _, _ := strings.Cut(name, "/"); strings.Contains(first, ".") && !strings.HasPrefix(name, module) {
				t.Errorf("%s imports %s: events, policy and detectors are pure logic and stay easy to reuse", f.path, name)
			}
		}
	}
}

// forbiddenCalls is selector expressions that only some directories may use.
var forbiddenCalls = []struct {
	pkg, name string
	allowed   []string
	reason    string
}{
	{"os", "Exit", []string{"cmd", "test", "internal"}, "a library that ends the program cannot be drained"},
	{"os", "Getenv", []string{"cmd", "test", "internal"}, "the environment is the command's to read: packages get a Config"},
	{"os", "LookupEnv", []string{"cmd", "test", "internal"}, "the environment is the command's to read: packages get a Config"},
	{"os", "Args", []string{"cmd", "test", "internal"}, "arguments are the command's"},
	{"log", "Fatal", nil, "a library that ends the program cannot be drained"},
	{"slog", "Default", nil, "the logger is injected"},
	{"slog", "SetDefault", nil, "the logger is injected"},
}

func TestForbiddenCalls(t *testing.T) {
	for _, f := range sources(t) {
		if f.test() {
			continue
		}
		ast.Inspect(f.tree, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := selector.X.(*ast.Ident)
			if !ok {
				return true
			}
			for _, c := range forbiddenCalls {
				if pkg.Name == c.pkg && selector.Sel.Name == c.name && !f.in(c.allowed...) {
					t.Errorf("%s: %s.%s: %s", f.fset.Position(n.Pos()), c.pkg, c.name, c.reason)
				}
			}
			return true
		})
	}
}

func TestNoInit(t *testing.T) {
	for _, f := range sources(t) {
		for _, decl := range f.tree.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" && !f.generated() {
				t.Errorf("%s has an init(): what registers itself is in no list that a reader can see", f.path)
			}
		}
	}
}

func TestPackagesSayWhatTheyOwn(t *testing.T) {
	docs := map[string]string{}
	for _, f := range sources(t) {
		if f.test() {
			continue
		}
		dir := filepath.ToSlash(filepath.Dir(f.path))
		docs[dir] += f.tree.Doc.Text()
	}
	for dir, doc := range docs {
		// Whitespace as one: comments wrap.
		text := strings.Join(strings.Fields(doc), " ")
		if text == "" {
			t.Errorf("%s has no package comment", dir)
		} else if !strings.Contains(text, "must not") {
			t.Errorf("%s: its comment does not say what it must not do: that is what keeps packages apart", dir)
		}
	}
}

func TestPackageNames(t *testing.T) {
	for _, f := range sources(t) {
		if slices.Contains([]string{"util", "utils", "common", "types", "helpers", "misc"}, f.tree.Name.Name) {
			t.Errorf("%s is in package %s: a name that says nothing gathers everything", f.path, f.tree.Name.Name)
		}
	}
}

func TestMainIsShort(t *testing.T) {
	const limit = 100
	if n := countLines(t, "cmd/watchglass/main.go"); n >= limit {
		t.Errorf("main.go has %d lines, the limit is %d: what it does belongs to a subcommand or a package", n, limit)
	}
}

func countLines(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), "\n")
}

func TestLicences(t *testing.T) {
	for _, path := range paths(t) {
		licence := ""
		switch filepath.Ext(path) {
		case ".go", ".sh", ".yml":
			licence = "Apache-2.0"
		case ".c", ".h":
			licence = "GPL-2.0-only OR BSD-2-Clause"
		case "", ".editorconfig", ".clang-format":
			if !slices.Contains([]string{"Makefile", ".ci/run", ".editorconfig", ".clang-format"}, path) {
				continue
			}
			licence = "Apache-2.0"
		default:
			continue
		}
		if strings.Contains(path, "/testdata/") || strings.Contains(path, "_bpfel") || strings.Contains(path, "_bpfeb") {
			continue
		}
		if !strings.Contains(head(t, path), "SPDX-License-Identifier: "+licence) {
			t.Errorf("%s: no SPDX line with %s in its first lines", path, licence)
		}
	}
}

// head is the first lines of a file.
func head(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var lines []string
	scanner := bufio.NewScanner(f)
	for len(lines) < 4 && scanner.Scan() {
		lines = append(lines, scanner.Text())
	}
	return strings.Join(lines, "\n")
}

func TestNoListsKeptEqualByAComment(t *testing.T) {
	banned := "keep in" + " sync" // in two parts, or it would find itself
	for _, path := range paths(t) {
		switch filepath.Ext(path) {
		case ".go", ".c", ".h", ".sh", ".md", ".yaml", ".yml", "":
		default:
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		// The architecture's page states the rule itself.
		if path != "docs/architecture.md" && strings.Contains(strings.ToLower(string(text)), banned) {
			t.Errorf("%s: %q: generate one list from the other, or have only one", path, banned)
		}
	}
}
