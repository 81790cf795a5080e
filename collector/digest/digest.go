// SPDX-License-Identifier: Apache-2.0

// Package digest knows the SHA-256 of the files that processes execute.
//
// It owns finding the file again that the kernel executed, reading it once, and remembering what it read, all within
// bounds and beside the events' way. It must not hold an event up, nor take another file for the one that was executed:
// what it cannot find, or cannot be sure of, has no sum and a reason.
package digest

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Config is the bounds.
type Config struct {
	// MaxBytes is the size of the largest file that is read.
	MaxBytes int64
	// Files is how many sums are remembered, Waiting how many files may wait to be read: those of one sandbox, half of that.
	Files, Waiting int
}

// DefaultConfig reads files of up to 512 MiB, agents are large, and remembers 8,192 sums.
func DefaultConfig() Config { return Config{MaxBytes: 512 << 20, Files: 8192, Waiting: 256} }

// Validate says what is wrong with the bounds.
func (c *Config) Validate() error {
	const mostFiles, mostBytes = 1 << 20, 1 << 40
	if c.MaxBytes < 1 || c.MaxBytes > mostBytes {
		return fmt.Errorf("bound of %d bytes is not from 1 to %d", c.MaxBytes, int64(mostBytes))
	}
	if c.Files < 1 || c.Files > mostFiles || c.Waiting < 1 || c.Waiting > mostFiles {
		return fmt.Errorf("bounds of %d and %d files are not from 1 to %d", c.Files, c.Waiting, mostFiles)
	}
	return nil
}

// File is a version of a file, as the kernel knew it when it was executed. Times are nanoseconds since 1970. The kernel
// moves Changed at every change, and no program can set it.
type File struct {
	Inode             uint64
	Changed, Modified int64
	// Device is major<<20|minor.
	Device uint32
}

// Request is a file to be read, and where it may be found.
type Request struct {
	File File
	// Sandbox is the id of whose turn it is.
	Sandbox string
	// Processes is whose it is, by id in the initial PID namespace: first the one that executes it, then others that may
	// have the same root directory. Path is its path as these see it.
	Processes []uint32
	Path      string
	// Executed is when it was executed, in nanoseconds since 1970.
	Executed int64
}

const (
	// tick is more than the time that the kernel's clock of files stands still for: of two changes within it the second one
	// may not show. coarseTick is that of file systems that keep whole seconds, or two.
	tick, coarseTick = 20 * time.Millisecond, 2 * time.Second
)

// settled says whether the file had not changed for so long before it was executed that every later change shows.
func (r *Request) settled() bool {
	still := tick
	if r.File.Changed%int64(time.Second) == 0 {
		still = coarseTick
	}
	return r.Executed-r.File.Changed > int64(still)
}

// Reason is why there is no sum.
type Reason string

const (
	// ReasonBusy means that too many files of its sandbox wait to be read, or that it still waited when the collector ended.
	ReasonBusy Reason = "busy"
	// ReasonGone means that it could not be found any more: the process has ended, and nothing is at its path or
	// something else.
	ReasonGone Reason = "gone"
	// ReasonChanged means that it was written to since it was executed, maybe while it was read.
	ReasonChanged Reason = "changed"
	// ReasonTooLarge means that it is larger than what is read.
	ReasonTooLarge Reason = "too_large"
	// ReasonFilesystem means that it is on a file system that can make its readers wait: one that a program or another
	// machine serves.
	ReasonFilesystem Reason = "filesystem"
	// ReasonUnreadable means that reading failed.
	ReasonUnreadable Reason = "unreadable"
)

// Result is what became of a request: a sum in hexadecimal, or why there is none.
type Result struct {
	SHA256 string
	Reason Reason
	// Uncertain is whether the file had changed so shortly before it was executed that it may have changed once more
	// without a trace: then the sum is what it became, which may not be what was executed.
	Uncertain bool
}

// Digester reads files, one after the other. Its methods may be called from any goroutine.
type Digester struct {
	cfg Config
	// more says that something waits.
	more chan struct{}
	// interrupted is what Run was reading when it ended.
	interrupted []waiting

	mu    sync.Mutex
	turns turns
	// sums is what was read; order is theirs, oldest first.
	sums  map[version]string
	order []version
	// asked is the files that wait to be read.
	asked map[File]bool
}

// version is a file whose sum is remembered, or one as its file system tells programs of it. Of an overlay of several file
// systems, or subvolumes, two files can be the same to the kernel's probe: such a one is found again only by opening it.
type version struct {
	file   File
	opened bool
}

type waiting struct {
	request Request
	done    func(Result)
}

// New makes a Digester; Run has it read.
func New(cfg Config) (*Digester, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Digester{
		cfg: cfg, more: make(chan struct{}, 1), turns: turns{room: cfg.Waiting, queues: map[string][]waiting{}},
		sums: map[version]string{}, asked: map[File]bool{},
	}, nil
}

// Ask returns the sum of a file that was read before, or ReasonBusy. Otherwise the result is empty: the file is read, and
// done is told by the goroutine of Run, unless it waits to be read for somebody else already.
func (d *Digester) Ask(r Request, done func(Result)) Result {
	d.mu.Lock()
	defer d.mu.Unlock()
	// What may have changed without a trace is another one each time.
	settled := r.settled()
	if sum := d.sums[version{file: r.File}]; sum != "" && settled {
		return Result{SHA256: sum}
	}
	if settled && d.asked[r.File] {
		return Result{}
	}
	if !d.turns.add(waiting{r, done}) {
		return Result{Reason: ReasonBusy}
	}
	if settled {
		d.asked[r.File] = true
	}
	select {
	case d.more <- struct{}{}:
	default: // it was told already
	}
	return Result{}
}

// Run reads what was asked for until ctx ends. What waits then is Finish's.
func (d *Digester) Run(ctx context.Context) {
	for ctx.Err() == nil {
		w, ok := d.next()
		if !ok {
			select {
			case <-ctx.Done():
			case <-d.more:
			}
			continue
		}
		if !d.answer(ctx, w) {
			d.interrupted = append(d.interrupted, w)
		}
	}
}

// Finish is called after Run, when nobody asks any more: it reads what still waits. When ctx ends first, the rest is told
// to be ReasonBusy.
func (d *Digester) Finish(ctx context.Context) {
	left := d.interrupted
	for w, ok := d.next(); ok; w, ok = d.next() {
		left = append(left, w)
	}
	for _, w := range left {
		if ctx.Err() != nil || !d.answer(ctx, w) {
			w.done(Result{Reason: ReasonBusy})
		}
	}
}

// answer reads what was asked for and tells it, unless ctx ends meanwhile.
func (d *Digester) answer(ctx context.Context, w waiting) bool {
	result := d.read(ctx, &w.request)
	if ctx.Err() != nil {
		return false
	}
	if w.request.settled() {
		d.answered(w.request.File)
	}
	w.done(result)
	return true
}

func (d *Digester) next() (waiting, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.turns.next()
}

func (d *Digester) answered(file File) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.asked, file)
}

// known is the sum of a version, "" where it is not remembered.
func (d *Digester) known(v version) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sums[v]
}

// remember keeps the sum of a version, in the place of the oldest where there is no room.
func (d *Digester) remember(v version, sum string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sums[v] != "" {
		return
	}
	if len(d.order) >= d.cfg.Files {
		delete(d.sums, d.order[0])
		d.order = d.order[1:]
	}
	d.sums[v] = sum
	d.order = append(d.order, v)
}
