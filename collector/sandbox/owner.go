// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/watchglass/watchglass/event"
)

// maxCgroupFile bounds what is read of /proc/PID/cgroup: one line for each hierarchy, at most a path each.
const maxCgroupFile = 64 << 10

// Of is the sandbox that a process is in, nil when it is in none that is watched or has ended. The pid is of this
// process's pid namespace, which must be the machine's.
func (r *Registry) Of(pid uint32) *event.Sandbox {
	file, err := os.Open(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil
	}
	defer file.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(file, maxCgroupFile))
	if err != nil {
		return nil
	}
	return r.holder(unifiedPath(text))
}

// unifiedPath is the cgroup2 path in a /proc/PID/cgroup, as seen from this process's cgroup namespace; "" when
// there is none, or when the cgroup is removed or outside of the namespace.
func unifiedPath(text []byte) string {
	for line := range bytes.Lines(text) {
		name, ok := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("\n")), []byte("0::"))
		if ok {
			if !path.IsAbs(string(name)) || path.Clean(string(name)) != string(name) {
				return ""
			}
			return string(name)
		}
	}
	return ""
}

// holder is the watched sandbox that a cgroup is, or is below of; the outermost of several. They are looked up by
// their ids: a cgroup that was removed and made again under its old name is another one.
func (r *Registry) holder(cgroup string) *event.Sandbox {
	if cgroup == "" {
		return nil
	}
	for i := 1; i <= len(cgroup); i++ {
		if i < len(cgroup) && cgroup[i] != '/' {
			continue
		}
		dir, ok := r.cfg.Mount.dir(cgroup[:i])
		if !ok {
			continue
		}
		if id, err := ID(dir); err == nil {
			if s := r.Lookup(id); s != nil {
				return s
			}
		}
	}
	return nil
}
