// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/watchglass/watchglass/event"
)

const (
	// maxPlainFiles is how many files the kernel side knows as plain: what its map has room for.
	maxPlainFiles = 4096
	// maxPlainCandidates bounds the files that one process used and another may use.
	maxPlainCandidates = 16384
	// plainSweep is how often it is seen to that none of them is watched by now.
	plainSweep = 5 * time.Second
)

// plainFiles is the files that several processes used and that are not watched. Of each of them the kernel side adds up
// what a process reads, and tells nothing while that is little. It is used by the goroutine of Run alone.
type plainFiles struct {
	kernel  *ebpf.Map
	watched func(path string) bool
	swept   time.Time
	// known is by what the kernel side knows a file by; order is theirs, oldest first, and may hold ones that are gone.
	// entered is those that the kernel side knows, oldest first.
	known          map[filePlainKey]*plainFile
	order, entered []filePlainKey
}

// plainFile is a file that was used.
type plainFile struct {
	path, host string
	// start is the process that used it first; entered is true while the kernel side knows the file.
	start   uint64
	entered bool
}

// newPlainFiles has the kernel side forget what a tracer before has found, which may have known other paths as watched.
func newPlainFiles(kernel *ebpf.Map, watched func(string) bool) (*plainFiles, error) {
	p := &plainFiles{kernel: kernel, watched: watched, swept: time.Now(), known: map[filePlainKey]*plainFile{}}
	var keys []filePlainKey
	var key filePlainKey
	var value uint32
	entries := kernel.Iterate()
	for entries.Next(&key, &value) {
		keys = append(keys, key)
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("listing the files that are told together: %w", err)
	}
	for _, key := range keys {
		if err := kernel.Delete(key); err != nil {
			return nil, fmt.Errorf("having a file told by itself: %w", err)
		}
	}
	return p, nil
}

// note takes the first use of a file by a process. When another process has used it before, it is entered.
func (p *plainFiles) note(r *Record, io *event.FileIO) {
	if r.mix == 0 || io.Deleted || io.Path == "" || p.isWatched(io.Path, io.HostPath) {
		return
	}
	key := filePlainKey{Mix: r.mix, Inode: io.Inode, Device: io.Device}
	f := p.known[key]
	if f == nil {
		p.remember(key, &plainFile{path: io.Path, host: io.HostPath, start: r.Task.Start})
		return
	}
	if f.entered || f.start == r.Task.Start {
		return
	}
	for len(p.entered) >= maxPlainFiles {
		p.forget(p.entered[0])
	}
	if err := p.kernel.Put(&key, uint32(1)); err != nil {
		return // there is no room: it is told each time
	}
	f.entered = true
	p.entered = append(p.entered, key)
}

func (p *plainFiles) isWatched(path, host string) bool {
	return p.watched(path) || host != "" && p.watched(host)
}

// remember keeps a file that was used for the first time; the oldest ones go for lack of room.
func (p *plainFiles) remember(key filePlainKey, f *plainFile) {
	for len(p.order) >= maxPlainCandidates {
		oldest := p.order[0]
		p.order = p.order[1:]
		if f := p.known[oldest]; f != nil && !f.entered {
			delete(p.known, oldest)
		}
	}
	p.known[key] = f
	p.order = append(p.order, key)
}

// forget has the kernel side tell of a file by itself again; it is the oldest of those that are entered.
func (p *plainFiles) forget(key filePlainKey) {
	p.entered = p.entered[1:]
	delete(p.known, key)
	_ = p.kernel.Delete(&key) // it is there, and nobody else deletes it
}

// sweep looks whether a file has become watched: the policy can change.
func (p *plainFiles) sweep(now time.Time) {
	if now.Sub(p.swept) < plainSweep {
		return
	}
	p.swept = now
	kept := p.entered[:0]
	for _, key := range p.entered {
		if f := p.known[key]; !p.isWatched(f.path, f.host) {
			kept = append(kept, key)
			continue
		}
		delete(p.known, key)
		_ = p.kernel.Delete(&key) // as in forget
	}
	p.entered = kept
}
