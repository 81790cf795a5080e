// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/watchglass/watchglass/event"
)

func TestUnifiedPath(t *testing.T) {
	for text, want := range map[string]string{
		"0::/a/b\n": "/a/b",
		"9:name=systemd:/x\n4:memory:/y\n0::/docker/c\n": "/docker/c",
		"0::/\n":                        "/",
		"0::/a":                         "/a",
		"":                              "",
		"4:memory:/y\n":                 "",
		"0::/../other\n":                "", // outside of this cgroup namespace
		"0::/a (deleted)\n":             "/a (deleted)",
		"0::relative\n":                 "",
		"1:name=0::/forged:/x\n0::/b\n": "/b",
	} {
		if got := unifiedPath([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

type noKernel struct{}

func (noKernel) Track(uint64) error     { return nil }
func (noKernel) Untrack(uint64) error   { return nil }
func (noKernel) Bootstrap(uint64) error { return nil }

func TestHolder(t *testing.T) {
	dir := t.TempDir()
	made := func(path string) uint64 {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, path), 0o755); err != nil {
			t.Fatal(err)
		}
		id, err := ID(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	r, err := New(Config{
		Mount: Mount{Dir: dir, Root: "/"}, BootID: "b", Max: 10, Kernel: noKernel{}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	made("/docker/c/below/deeper")
	made("/docker/other")
	for _, path := range []string{"/docker/c", "/docker/c/below"} {
		if _, err := r.Add(event.Sandbox{Cgroup: path, CgroupID: made(path)}); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"/docker/c": "/docker/c", "/docker/c/below/deeper": "/docker/c", "/docker/c/gone": "/docker/c",
		"/docker/other": "", "/docker": "", "/": "", "": "", "/docker/cc": "",
	} {
		got := ""
		if s := r.holder(path); s != nil {
			got = s.Cgroup
		}
		if got != want {
			t.Errorf("%q is in %q, want %q", path, got, want)
		}
	}
	if s := r.Of(uint32(os.Getpid())); s != nil {
		t.Errorf("this process is in %q", s.Cgroup)
	}
	if s := r.Of(1 << 30); s != nil {
		t.Errorf("nobody is in %q", s.Cgroup)
	}
}
