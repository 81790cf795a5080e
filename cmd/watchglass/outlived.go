// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/watchglass/watchglass/event"
)

// Bounds of what is told of processes that outlived a session.
const (
	maxOutlivers    = 100
	maxOutliverArgs = 4096
)

// known is what the records say of the processes with these ids that are alive in the sandbox, and
// what /proc says of those that no record told of; as far as the bound of the list allows.
func (s *session) known(pids []int) []*event.Process {
	alive := map[int]*event.Process{}
	for _, p := range s.watch.pipeline.Alive(s.leaf.ID) {
		alive[int(p.PID)] = p
	}
	var list []*event.Process
	for _, pid := range pids[:min(len(pids), maxOutlivers)] {
		p := alive[pid]
		if p == nil {
			p = outliver(pid)
		}
		list = append(list, p)
	}
	return list
}

// outliver is what /proc says of a process; of one that is gone by now, its number.
func outliver(pid int) *event.Process {
	dir := "/proc/" + strconv.Itoa(pid) + "/"
	p := &event.Process{PID: uint32(pid)}
	if executable, err := os.Readlink(dir + "exe"); err == nil {
		p.Executable = strings.TrimSuffix(executable, " (deleted)")
		p.Name = path.Base(p.Executable)
	}
	f, err := os.Open(dir + "cmdline")
	if err != nil {
		return p
	}
	defer func() { _ = f.Close() }()
	text := make([]byte, maxOutliverArgs)
	n, _ := f.Read(text)
	for arg := range bytes.SplitSeq(bytes.TrimSuffix(text[:n], []byte{0}), []byte{0}) {
		p.Args = append(p.Args, string(arg))
	}
	return p
}
