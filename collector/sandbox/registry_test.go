// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/watchglass/watchglass/event"
)

// fakeKernel writes down what it is asked; it refuses the ids in broken.
type fakeKernel struct {
	calls  []string
	broken map[uint64]bool
	during func()
}

var errBroken = errors.New("no such cgroup")

func (k *fakeKernel) call(what string, id uint64) error {
	k.calls = append(k.calls, what)
	if k.during != nil {
		k.during()
	}
	if k.broken[id] {
		return errBroken
	}
	return nil
}
func (k *fakeKernel) Track(id uint64) error     { return k.call("track", id) }
func (k *fakeKernel) Untrack(id uint64) error   { return k.call("untrack", id) }
func (k *fakeKernel) Bootstrap(id uint64) error { return k.call("bootstrap", id) }

func (k *fakeKernel) took() string {
	s := strings.Join(k.calls, " ")
	k.calls = nil
	return s
}

// newTestRegistry makes a registry over a directory that stands for the mount, with these cgroups.
func newTestRegistry(t *testing.T, most int, cgroups ...string) (*Registry, *fakeKernel, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	for _, c := range cgroups {
		if err := os.MkdirAll(filepath.Join(dir, c), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	kernel, log := &fakeKernel{broken: map[uint64]bool{}}, &bytes.Buffer{}
	r, err := New(Config{
		Mount: Mount{Dir: dir, Root: "/"}, BootID: "boot", Max: most, Kernel: kernel,
		Selectors: selectors(t, "/pods/*"), Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, kernel, log
}

func selectors(t *testing.T, patterns ...string) Selectors {
	t.Helper()
	s, err := ParseSelectors(patterns)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func paths(sandboxes []*event.Sandbox) string {
	var list []string
	for _, s := range sandboxes {
		list = append(list, s.Cgroup)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func (r *Registry) id(t *testing.T, cgroup string) uint64 {
	t.Helper()
	id, err := ID(filepath.Join(r.cfg.Mount.Dir, cgroup))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestRegistryScan(t *testing.T) {
	r, kernel, _ := newTestRegistry(t, 10, "/pods/a/inner", "/pods/b", "/other/a")
	added, err := r.Scan()
	if err != nil || paths(added) != "/pods/a /pods/b" {
		t.Fatalf("added %q, %v", paths(added), err)
	}
	if got := kernel.took(); got != "track bootstrap track bootstrap" {
		t.Errorf("the kernel was asked to %q", got)
	}
	if again, err := r.Scan(); err != nil || len(again) != 0 {
		t.Errorf("a second look found %q, %v", paths(again), err)
	}
	s := r.Lookup(r.id(t, "/pods/a"))
	if s == nil || s.Name != "a" || s.Runtime != RuntimeCgroup || len(s.ID) != 16 || s.Started.IsZero() {
		t.Errorf("%+v", s)
	}
	if r.Lookup(r.id(t, "/other/a")) != nil || r.Lookup(r.id(t, "/pods/a/inner")) != nil {
		t.Error("more than the sandboxes themselves are found by id")
	}
}

func TestRegistryMadeAndGone(t *testing.T) {
	r, kernel, _ := newTestRegistry(t, 10, "/pods/a/inner")
	id := r.id(t, "/pods/a")
	for _, stranger := range []string{"/pods", "/other/a", "/pods/a/inner", "", "pods/a"} {
		if s := r.Made(id, stranger); s != nil {
			t.Errorf("%q is a sandbox: %+v", stranger, s)
		}
	}
	s := r.Made(id, "/pods/a")
	if s == nil || r.Made(id, "/pods/a") != nil {
		t.Error("the sandbox is not made once")
	}
	if got := kernel.took(); got != "track bootstrap" {
		t.Errorf("the kernel was asked to %q", got)
	}
	if r.Gone(id+1) != nil || r.Gone(id) != s || r.Gone(id) != nil || r.Len() != 0 {
		t.Error("the sandbox is not gone once")
	}
	if got := kernel.took(); got != "untrack" {
		t.Errorf("the kernel was asked to %q", got)
	}
}

func TestRegistryMadeAndGoneAtOnce(t *testing.T) {
	r, kernel, log := newTestRegistry(t, 10, "/pods/a")
	if s := r.Made(1<<40, "/pods/a"); s != nil || r.Len() != 0 || kernel.took() != "track untrack" {
		t.Errorf("the name is another cgroup's by now: %+v", s)
	}
	if s := r.Made(1<<40, "/pods/never"); s != nil || r.Len() != 0 || kernel.took() != "track untrack" {
		t.Errorf("the cgroup is gone: %+v", s)
	}
	if log.Len() != 0 {
		t.Errorf("what is ordinary is logged: %s", log)
	}
}

func TestRegistryIsBounded(t *testing.T) {
	var cgroups []string
	for i := range 8 {
		cgroups = append(cgroups, fmt.Sprintf("/pods/%d", i))
	}
	r, _, log := newTestRegistry(t, 3, cgroups...)
	if added, err := r.Scan(); err != nil || len(added) != 3 || r.Len() != 3 || r.Refused() != 5 {
		t.Errorf("%d added, %d refused, %v", len(added), r.Refused(), err)
	}
	if strings.Count(log.String(), "\n") != 1 {
		t.Errorf("not one line for a row of refusals: %s", log)
	}
	r.Gone(r.Sandboxes()[0].CgroupID)
	if s := r.Made(r.id(t, "/pods/7"), "/pods/7"); s == nil && r.Lookup(r.id(t, "/pods/7")) == nil {
		t.Error("no room after one is gone")
	}
}

func TestRegistryWithoutTheKernel(t *testing.T) {
	r, kernel, log := newTestRegistry(t, 3, "/pods/a")
	kernel.broken[r.id(t, "/pods/a")] = true
	if added, err := r.Scan(); err != nil || len(added) != 0 || r.Len() != 0 || r.Refused() != 1 {
		t.Errorf("%q added, %d refused, %v", paths(added), r.Refused(), err)
	}
	if !strings.Contains(log.String(), errBroken.Error()) {
		t.Errorf("the log does not say why: %s", log)
	}
	if _, err := r.Add(event.Sandbox{CgroupID: r.id(t, "/pods/a"), Cgroup: "/pods/a"}); !errors.Is(err, errBroken) {
		t.Errorf("Add: %v", err)
	}
}

func TestRegistryKnowsBeforeTheKernelDoes(t *testing.T) {
	r, kernel, _ := newTestRegistry(t, 3, "/pods/a")
	id := r.id(t, "/pods/a")
	kernel.during = func() {
		if r.Lookup(id) == nil {
			t.Error("a record of the new sandbox would be a stranger's")
		}
		kernel.during = nil
	}
	r.Made(id, "/pods/a")
}

func TestRegistrySelect(t *testing.T) {
	r, kernel, _ := newTestRegistry(t, 10, "/pods/a", "/pods/b/inner", "/other/c", "/watchglass/run-1")
	if _, err := r.Add(event.Sandbox{CgroupID: r.id(t, "/watchglass/run-1"), Cgroup: "/watchglass/run-1", Runtime: RuntimeRun}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Scan(); err != nil {
		t.Fatal(err)
	}
	kernel.took()
	added, removed, err := r.Select(selectors(t, "/pods/a", "/pods/*/inner", "/other/*"))
	if err != nil || paths(added) != "/other/c /pods/b/inner" || paths(removed) != "/pods/b" {
		t.Errorf("added %q, removed %q, %v", paths(added), paths(removed), err)
	}
	if got := paths(r.Sandboxes()); got != "/other/c /pods/a /pods/b/inner /watchglass/run-1" {
		t.Errorf("watched: %q", got)
	}
	if got := kernel.took(); got != "untrack track bootstrap track bootstrap" {
		t.Errorf("the kernel was asked to %q", got)
	}
}

func TestIdentity(t *testing.T) {
	if a, b := Identity("boot", 1), Identity("boot2", 1); a == b || a == Identity("boot", 2) || len(a) != 16 {
		t.Errorf("%q, %q", a, b)
	}
}
