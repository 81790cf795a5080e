// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"strings"
	"testing"
)

const (
	lineV1       = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
	lineHybrid   = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
	lineV2       = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate\n"
	lineElse     = "90 23 0:26 / /mnt/a\\040b rw - cgroup2 none rw\n"
	lineReadOnly = "90 23 0:26 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n"
	lineTmpfs    = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
)

func TestParseMount(t *testing.T) {
	for name, test := range map[string]struct {
		mountinfo string
		want      Mount
		err       error
	}{
		"v2":           {lineV2, Mount{Dir: "/sys/fs/cgroup", Root: "/"}, nil},
		"hybrid":       {lineTmpfs + lineV1 + lineHybrid, Mount{Dir: "/sys/fs/cgroup/unified", Root: "/", Hybrid: true}, nil},
		"elsewhere":    {lineElse, Mount{Dir: "/mnt/a b", Root: "/"}, nil},
		"first of two": {lineV2 + lineElse, Mount{Dir: "/sys/fs/cgroup", Root: "/"}, nil},
		"a part first": {lineReadOnly + lineElse, Mount{Dir: "/mnt/a b", Root: "/"}, nil},
		"container":    {lineReadOnly, Mount{Dir: "/sys/fs/cgroup", Root: "/docker/abc", ReadOnly: true}, nil},
		"v1 only":      {lineTmpfs + lineV1, Mount{}, ErrV1Only},
		"none":         {lineTmpfs, Mount{}, ErrNoCgroup},
		"malformed":    {" - cgroup2\nx - cgroup2 a b\n\n", Mount{}, ErrNoCgroup},
	} {
		got, err := ParseMount(strings.NewReader(test.mountinfo))
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: %+v, %v; want %+v, %v", name, got, err, test.want, test.err)
		}
		if err != nil && Remedy(err) == "" {
			t.Errorf("%s: no remedy for %v", name, err)
		}
	}
}

func TestMountPath(t *testing.T) {
	m := Mount{Dir: "/sys/fs/cgroup", Root: "/docker/abc"}
	for dir, want := range map[string]string{
		"/sys/fs/cgroup":     "/docker/abc",
		"/sys/fs/cgroup/a/b": "/docker/abc/a/b",
	} {
		if got, err := m.Path(dir); err != nil || got != want {
			t.Errorf("Path(%q) = %q, %v; want %q", dir, got, err, want)
		}
		if got, ok := m.dir(want); !ok || got != dir {
			t.Errorf("dir(%q) = %q, %v; want %q", want, got, ok, dir)
		}
	}
	if got, err := m.Path("/sys/fs"); err == nil {
		t.Errorf("a path outside of the mount is %q", got)
	}
	if got, ok := m.dir("/docker/other"); ok {
		t.Errorf("a cgroup outside of the mount is %q", got)
	}
}

func FuzzParseMount(f *testing.F) {
	for _, seed := range []string{lineV1, lineHybrid, lineV2, lineElse, lineReadOnly, lineTmpfs, `1 1 0:1 \777 \04 rw - cgroup2`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, mountinfo string) {
		m, err := ParseMount(strings.NewReader(mountinfo))
		if (err == nil) != (m.Dir != "") {
			t.Errorf("%+v with error %v", m, err)
		}
	})
}
