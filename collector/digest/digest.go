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
)

// Config is the bounds.
type Config struct {
	// MaxBytes is the size of the largest file that is read.
	MaxBytes int64
	// Files is how many sums are remembered, Waiting how many files may wait to be read.
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
	// Processes is whose it is, by id in the initial PID namespace: first the one that executes it, then others that may
	// have the same root directory. Path is its path as these see it.
	Processes []uint32
	Path      string
}

// Reason is why there is no sum.
type Reason string

const (
	// ReasonBusy means that too many files wait to be read.
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
}

// Digester reads files, one after the other. Its methods may be called from any goroutine.
type Digester struct {
	cfg   Config
	queue chan waiting

	mu sync.Mutex
	// sums is what was read; order is theirs, oldest first.
	sums  map[File]string
	order []File
	// asked is the files that wait to be read.
	asked map[File]bool
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
	return &Digester{cfg: cfg, queue: make(chan waiting, cfg.Waiting), sums: map[File]string{}, asked: map[File]bool{}}, nil
}

// Ask returns the sum of a file that was read before, or ReasonBusy. Otherwise the result is empty: the file is read, and
// done is told by the goroutine of Run, unless it waits to be read for somebody else already.
func (d *Digester) Ask(r Request, done func(Result)) Result {
	d.mu.Lock()
	defer d.mu.Unlock()
	if sum := d.sums[r.File]; sum != "" {
		return Result{SHA256: sum}
	}
	if d.asked[r.File] {
		return Result{}
	}
	select {
	case d.queue <- waiting{r, done}:
		d.asked[r.File] = true
		return Result{}
	default:
		return Result{Reason: ReasonBusy}
	}
}

// Run reads what was asked for until ctx ends. What waits then gets no sum.
func (d *Digester) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-d.queue:
			result := d.read(ctx, &w.request)
			d.remember(w.request.File, result)
			if ctx.Err() == nil {
				w.done(result)
			}
		}
	}
}

func (d *Digester) remember(file File, result Result) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.asked, file)
	if result.SHA256 == "" {
		return
	}
	if len(d.order) >= d.cfg.Files {
		delete(d.sums, d.order[0])
		d.order = d.order[1:]
	}
	d.sums[file] = result.SHA256
	d.order = append(d.order, file)
}
