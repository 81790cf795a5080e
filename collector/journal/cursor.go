// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/watchglass/watchglass/event"
)

// saveInterval is how often a cursor is written at most while it moves. What was delivered since is
// delivered again after a crash.
const saveInterval = 500 * time.Millisecond

// Cursor is how far one destination has come, and reads on from there: Next, deliver, Commit. It survives
// restarts. Next and Commit are called from one goroutine.
type Cursor struct {
	journal *Journal
	name    string
	path    string
	oldest  bool
	wants   func(*event.Encoded) bool
	// of is the lanes that it reads, which alone have readers.
	of      []Lane
	readers [lanes]*laneReader
	wakeup  chan struct{}

	batch []event.Encoded
	arena []byte
	// count is how many events of the batch are of each lane; found is the next wanted one of a lane, when it was
	// looked for before there was room for it.
	count [lanes]int
	found [lanes]*event.Encoded
	saved time.Time
	dirty bool
	// passed is the events that were not wanted.
	passed atomic.Uint64

	// What follows is guarded by the journal's mu. The events before done are delivered, those before read
	// were given by Next.
	done, read [lanes]uint64
	// open is the base of the segment being read, which is there for this cursor even when it is evicted;
	// offset is where in it.
	open   [lanes]uint64
	offset [lanes]int64
	// ahead is how many events at or behind done were counted as evicted already.
	ahead            [lanes]uint64
	evicted, damaged uint64
	// since is when the oldest event of the batch that is being delivered was written.
	since time.Time
	// more is whether the batch ended at a limit.
	more bool
}

// cursorFile is a cursor's file.
type cursorFile struct {
	Format  int    `json:"format"`
	Journal string `json:"journal"`
	// Next is the ordinal of the next event to deliver, Ahead how many from there on were evicted and are
	// accounted for, by lane.
	Next  map[string]uint64 `json:"next"`
	Ahead map[string]uint64 `json:"ahead,omitempty"`
}

const cursorFormat = 1

// CursorName says whether a name can be a cursor's: it is a file's too.
func CursorName(name string) bool {
	return regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`).MatchString(name)
}

// CursorSettings is what a destination wants of the journal.
type CursorSettings struct {
	// Name is the destination's.
	Name string
	// Oldest has a new cursor begin with the oldest event that there is, and not with what is appended from now on.
	Oldest bool
	// Wants says whether an event is given; nil means that all are. It is asked from the goroutine of Next.
	Wants func(*event.Encoded) bool
	// Least is the least severity of what Wants chooses outside of the priority lane: frames that have none are not read.
	Least event.Severity
	// Spans has it read spans, and no events.
	Spans bool
}

// Cursor opens the cursor of a destination that wants everything from now on.
func (j *Journal) Cursor(name string) (*Cursor, error) {
	return j.OpenCursor(CursorSettings{Name: name})
}

// OpenCursor opens the cursor of a destination.
func (j *Journal) OpenCursor(s CursorSettings) (*Cursor, error) {
	name := s.Name
	if !CursorName(name) {
		return nil, fmt.Errorf("journal: %q cannot name a cursor: lower-case letters, digits, dots, dashes and underscores", name)
	}
	if err := os.MkdirAll(filepath.Join(j.cfg.Dir, "cursors"), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of cursors: %w", err)
	}
	c := &Cursor{
		journal: j, name: name, path: filepath.Join(j.cfg.Dir, "cursors", name+".json"), wakeup: make(chan struct{}, 1),
		oldest: s.Oldest, wants: s.Wants, of: []Lane{Priority, Events},
	}
	if s.Spans {
		c.of = []Lane{Spans}
	}
	for _, lane := range c.of {
		r, err := newLaneReader(lane, j.state.journal())
		if err != nil {
			return nil, err
		}
		r.list = func() ([]segment, error) {
			j.mu.Lock()
			defer j.mu.Unlock()
			return slices.Clone(j.view[lane].segments), nil
		}
		r.pin = func(base, position uint64) {
			j.mu.Lock()
			defer j.mu.Unlock()
			c.open[lane], c.read[lane] = base, max(c.read[lane], position)
		}
		r.missed = func(n uint64) {
			j.mu.Lock()
			defer j.mu.Unlock()
			c.evicted += n
		}
		if lane == Events && s.Least > 0 {
			r.wants = func(h *frameHeader) bool { return h.severity >= s.Least }
		}
		c.readers[lane] = r
	}
	c.load()
	j.mu.Lock()
	taken := slices.ContainsFunc(j.cursors, func(other *Cursor) bool { return other.name == name })
	if !taken {
		j.cursors = append(j.cursors, c)
	}
	j.mu.Unlock()
	if taken {
		return nil, fmt.Errorf("journal: two destinations are called %q", name)
	}
	return c, c.save()
}

// load takes the position from the file. One that is not there means the end of the journal, unless the destination
// wants its history; one that is no cursor of this journal means the beginning: better twice than never.
func (c *Cursor) load() {
	j := c.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	file, err := c.readFile()
	for _, lane := range c.of {
		v := &j.view[lane]
		first := v.head
		if len(v.segments) > 0 {
			first = v.segments[0].base
		}
		position := first
		switch {
		case errors.Is(err, fs.ErrNotExist) && !c.oldest:
			position = v.head
		case err == nil:
			position = min(file.Next[lane.String()], v.head)
		}
		if position < first {
			c.evicted += first - position - min(first-position, file.Ahead[lane.String()])
			position = first
		}
		c.done[lane], c.read[lane], c.readers[lane].position = position, position, position
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		j.log.Warn("a cursor cannot be read; its destination gets again what the journal has", "cursor", c.name, "error", err)
	}
}

func (c *Cursor) readFile() (cursorFile, error) {
	text, err := os.ReadFile(c.path)
	if err != nil {
		return cursorFile{}, fmt.Errorf("read a cursor: %w", err)
	}
	var file cursorFile
	if err := json.Unmarshal(text, &file); err != nil {
		return cursorFile{}, fmt.Errorf("read a cursor: %w", err)
	}
	id := c.journal.state.journal()
	if file.Format != cursorFormat || file.Journal != hex.EncodeToString(id[:]) || file.Next == nil {
		return cursorFile{}, errors.New("read a cursor: it is not of this journal")
	}
	return file, nil
}

// save writes the position.
func (c *Cursor) save() error {
	c.journal.mu.Lock()
	text, err := c.text()
	c.journal.mu.Unlock()
	if err != nil {
		return err
	}
	return swapFile(c.path, text)
}

func (c *Cursor) text() ([]byte, error) {
	id := c.journal.state.journal()
	file := cursorFile{Format: cursorFormat, Journal: hex.EncodeToString(id[:]), Next: map[string]uint64{}, Ahead: map[string]uint64{}}
	for _, lane := range c.of {
		file.Next[lane.String()] = c.done[lane]
		if c.ahead[lane] > 0 {
			file.Ahead[lane.String()] = c.ahead[lane]
		}
	}
	text, err := json.Marshal(file)
	if err != nil {
		return nil, fmt.Errorf("write a cursor: %w", err)
	}
	return append(text, '\n'), nil
}

// evict is told that a segment goes. True means that this cursor did not get its events. The caller holds mu.
func (c *Cursor) evict(lane Lane, base, end uint64) bool {
	if !slices.Contains(c.of, lane) {
		return false
	}
	if c.open[lane] == base {
		return false // it is read on, as long as it is open
	}
	from := max(base, c.read[lane])
	if from >= end {
		return false
	}
	c.evicted += end - from
	c.ahead[lane] += end - from
	return true
}

func (c *Cursor) wake() {
	select {
	case c.wakeup <- struct{}{}:
	default:
	}
}

// Limits bounds a batch.
type Limits struct {
	// Events is the most events, Bytes the most bytes of their records and resources unless one alone has more.
	Events, Bytes int
}

// Next is the next wanted events, those of the priority lane first: at most three quarters of a batch when both lanes have some.
// It waits for the first one, and returns nil with the context's error when ctx ends. The events are valid until the next call.
func (c *Cursor) Next(ctx context.Context, limits Limits) ([]event.Encoded, error) {
	for {
		if err := c.fill(limits); err != nil {
			return nil, err
		}
		if len(c.batch) > 0 {
			return c.batch, nil
		}
		if err := c.Commit(); err != nil { // damage alone moves it too, and what is not wanted
			return nil, err
		}
		if c.more && ctx.Err() == nil {
			continue
		}
		if err := c.flush(); err != nil {
			return nil, err
		}
		select {
		case <-c.wakeup:
		case <-ctx.Done():
			return nil, ctx.Err() //nolint:wrapcheck // the caller's own
		}
	}
}

// passAtOnce is how many unwanted events are passed over before the position is noted.
const passAtOnce = 1 << 16

func (c *Cursor) fill(limits Limits) error {
	c.batch, c.arena, c.more, c.count = c.batch[:0], c.arena[:0], false, [lanes]int{}
	if cap(c.arena) > 4*limits.Bytes {
		c.arena = nil // one huge event must not keep its memory for ever
	}
	heads := c.heads()
	size, oldest := 0, int64(0)
	for _, lane := range c.of {
		most := limits.Events
		if lane == Priority && c.readers[Events].position < heads[Events] {
			most -= limits.Events / 4
		}
		r := c.readers[lane]
		until := c.passed.Load() + passAtOnce
		for len(c.batch) < most && (size < limits.Bytes || size == 0) {
			e, ok, err := c.take(lane, heads[lane], until)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if oldest == 0 || r.frame.written < oldest {
				oldest = r.frame.written
			}
			size += len(e.Record) + len(e.Resource)
			at := len(c.arena)
			c.arena = append(c.arena, e.Record...)
			e.Record = c.arena[at:len(c.arena):len(c.arena)]
			c.batch = append(c.batch, e)
			c.count[lane]++
		}
		c.more = c.more || r.position < heads[lane] && (len(c.batch) >= most || size >= limits.Bytes || c.passed.Load() >= until)
	}
	c.settle(oldest)
	return nil
}

// take is the next wanted event of a lane before head. False means that there is none, or that until events were
// passed over already.
func (c *Cursor) take(lane Lane, head, until uint64) (event.Encoded, bool, error) {
	if found := c.found[lane]; found != nil {
		c.found[lane] = nil
		return *found, true, nil
	}
	r := c.readers[lane]
	defer func() {
		c.passed.Add(r.passed)
		r.passed = 0
	}()
	for r.position < head && c.passed.Load()+r.passed < until {
		e, ok, err := r.next()
		switch {
		case err != nil:
			return event.Encoded{}, false, fmt.Errorf("read the journal: %w", err)
		case ok && (c.wants == nil || c.wants(&e)):
			return e, true, nil
		case ok:
			r.passed++
		case r.position >= head || !c.journal.abandon(lane, r):
			return event.Encoded{}, false, nil
		}
	}
	return event.Encoded{}, false, nil
}

// Skim passes over events that are not wanted while what Next gave last is being delivered, in the lanes of which it
// has none: they do not wait for the destination, and nothing is lost to it when they are evicted. It may be called
// from the goroutine of Next.
func (c *Cursor) Skim() error {
	if c.wants == nil {
		return nil
	}
	heads := c.heads()
	for _, lane := range c.of {
		if c.count[lane] > 0 || c.found[lane] != nil {
			continue
		}
		e, ok, err := c.take(lane, heads[lane], c.passed.Load()+passAtOnce)
		if err != nil {
			return err
		}
		if ok {
			e.Record = bytes.Clone(e.Record)
			c.found[lane] = &e
		}
		c.journal.mu.Lock()
		c.note(lane)
		c.advance(lane)
		c.journal.mu.Unlock()
	}
	return c.flushSometimes()
}

// More says whether the latest batch ended at a limit, of events or of bytes, and not because there were no more.
func (c *Cursor) More() bool { return c.more }

func (c *Cursor) heads() (heads [lanes]uint64) {
	c.journal.mu.Lock()
	defer c.journal.mu.Unlock()
	for lane := range heads {
		heads[lane] = c.journal.view[lane].head
	}
	return heads
}

// settle tells the others how far this cursor has read.
func (c *Cursor) settle(oldest int64) {
	c.journal.mu.Lock()
	defer c.journal.mu.Unlock()
	c.since = time.Time{}
	for _, lane := range c.of {
		c.note(lane)
	}
	if len(c.batch) > 0 {
		c.since = time.Unix(0, oldest)
	}
}

// note tells the others how far a lane was read. The caller holds mu.
func (c *Cursor) note(lane Lane) {
	r := c.readers[lane]
	c.read[lane] = r.position
	if c.found[lane] != nil {
		c.read[lane]--
	}
	c.damaged = 0
	for _, own := range c.of {
		c.damaged += c.readers[own].damaged
	}
	if r.segment != nil {
		c.offset[lane] = r.segment.offset
	} else {
		c.open[lane] = 0
	}
}

// Passed is how many events were passed over because they are not wanted. It may be called from any goroutine.
func (c *Cursor) Passed() uint64 { return c.passed.Load() }

// abandon begins a new segment when a reader finds the one being written damaged: readers go on there.
func (j *Journal) abandon(lane Lane, r *laneReader) bool {
	j.write.Lock()
	defer j.write.Unlock()
	l := j.lanes[lane]
	if l.file == nil || l.head == l.active().base || r.position < l.active().base || r.position >= l.head {
		return false
	}
	j.log.Error("the journal's segment cannot be read back: the rest of it is given up", "segment", l.active().path,
		"first", r.position, "last", l.head-1)
	if err := l.rotate(); err != nil {
		j.complain("no new segment can be begun", err)
		return false
	}
	return true
}

// Commit says that what Next gave last is delivered. Its error means that after a restart it is delivered again.
func (c *Cursor) Commit() error {
	c.journal.mu.Lock()
	for _, lane := range c.of {
		c.advance(lane)
	}
	c.since = time.Time{}
	c.journal.mu.Unlock()
	return c.flushSometimes()
}

// advance says that what was read of a lane is delivered. The caller holds mu.
func (c *Cursor) advance(lane Lane) {
	if c.done[lane] != c.read[lane] {
		c.done[lane], c.dirty = c.read[lane], true
	}
	if v := &c.journal.view[lane]; len(v.segments) > 0 && c.done[lane] >= v.segments[0].base {
		c.ahead[lane] = 0 // what was evicted lies behind now
	}
}

// flushSometimes is flush, but not more often than the disk should be bothered.
func (c *Cursor) flushSometimes() error {
	if time.Since(c.saved) < saveInterval {
		return nil
	}
	return c.flush()
}

// flush writes the position if it changed.
func (c *Cursor) flush() error {
	if !c.dirty {
		return nil
	}
	c.dirty, c.saved = false, time.Now()
	if err := c.save(); err != nil {
		c.dirty = true
		return err
	}
	return nil
}

func (c *Cursor) close() error {
	for _, lane := range c.of {
		c.readers[lane].close()
	}
	return c.flush()
}

// stats is the cursor's account. The caller holds mu.
func (c *Cursor) stats() event.CursorStats {
	s := event.CursorStats{Name: c.name, Evicted: c.evicted, Damaged: c.damaged}
	for _, lane := range c.of {
		v := &c.journal.view[lane]
		if v.head <= c.done[lane] {
			continue
		}
		s.Lag += v.head - c.done[lane] - min(c.ahead[lane], v.head-c.done[lane])
		for i := range v.segments {
			g := &v.segments[i]
			switch {
			case g.base == c.open[lane]:
				s.LagBytes += max(0, g.size-c.offset[lane])
			case g.base >= c.done[lane] || g.end > c.done[lane]:
				s.LagBytes += g.size
			}
		}
	}
	if s.Lag > 0 && !c.since.IsZero() {
		s.LagAge = max(0, time.Since(c.since))
	}
	return s
}
