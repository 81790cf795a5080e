// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/replace"
)

// Settings is what the program passes, as opposed to what people configure.
type Settings struct {
	// Instance is this start's id: the Instance of the events to come.
	Instance string
	Logger   *slog.Logger
	// open opens segments to write; nil means the disk's own.
	open opener
}

// Reasons of losses at the stage event.LossJournal, whose Lost is Name, SpansName or, for reasonEvicted, a destination.
const (
	// reasonCrash: the previous start made these and ended, without order, before they were written.
	reasonCrash = "crash"
	// reasonUnfinished: these spans were being made when the previous start ended without order.
	reasonUnfinished = "unfinished"
	// reasonTorn: they were written, and a crash of the machine took them off the disk.
	reasonTorn = "torn"
	// reasonEvicted: they were removed for lack of room before the destination got them.
	reasonEvicted = "evicted"
	// reasonDamaged: what the disk gave back was not what was written.
	reasonDamaged = "damaged"
	// The rest never came onto the disk.
	reasonFull     = "disk_full"
	reasonFailed   = "write_failed"
	reasonTooLarge = "too_large"
)

// Name is what the journal is called where exporters and losses are named; SpansName is what its spans are called.
const (
	Name      = "journal"
	SpansName = "spans"
)

// complaintInterval is how often the same trouble is logged.
const complaintInterval = 30 * time.Second

// Journal is a journal being written: Open, then Append from one goroutine, then Close. Everything else
// may be called from any goroutine.
type Journal struct {
	cfg   Config
	log   *slog.Logger
	lock  *os.File
	state *state
	key   ed25519.PrivateKey

	// write is held by who appends, signs or removes.
	write     sync.Mutex
	lanes     [lanes]*laneWriter
	split     [lanes][]event.Encoded
	before    before
	held      [lanes]holding
	closed    bool
	allowance allowance
	heads     [lanes]*Checkpoint
	signed    time.Time
	quarantined

	// mu guards what readers see. It is never held while the disk is waited for.
	mu      sync.Mutex
	view    [lanes]laneView
	cursors []*Cursor
	// lost is events and lostSpans spans, by reason.
	lost, lostSpans map[string]uint64
	evicted         [lanes]uint64

	syncErrors, checkpoints atomic.Uint64
	// recorded is up to which place all events are written.
	recorded   atomic.Pointer[event.Place]
	complaints map[string]time.Time // guarded by write
	// ending is held while the state is let go of.
	ending       sync.RWMutex
	stop         chan struct{}
	housekeeping sync.WaitGroup
}

// laneView is a lane as readers see it.
type laneView struct {
	segments []segment
	head     uint64
	total    int64
}

// Open makes this process the journal's only writer, mends what a crash left torn, and finds out what it took.
func Open(cfg Config, s Settings) (*Journal, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if s.open == nil {
		s.open = openFile
	}
	j := &Journal{
		cfg: cfg, log: s.Logger, lost: map[string]uint64{}, lostSpans: map[string]uint64{},
		complaints: map[string]time.Time{}, stop: make(chan struct{}),
	}
	if err := j.prepare(&s); err != nil {
		return nil, errors.Join(explain(cfg.Dir, err), j.release())
	}
	j.housekeeping.Go(j.keepHouse)
	return j, nil
}

// explain adds what to do about an error of the folder.
func explain(dir string, err error) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("journal: %w; %s is on a read-only file system: mount it writable, or set journal.dir", err, dir)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("journal: %w; this process may not write %s: set journal.dir to where it may", err, dir)
	case full(err):
		return fmt.Errorf("journal: %w; the disk of %s is full: make room, or set journal.dir", err, dir)
	default:
		return fmt.Errorf("journal: %w", err)
	}
}

func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

func (j *Journal) prepare(s *Settings) error {
	if err := os.MkdirAll(j.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make the journal's folder: %w", err)
	}
	var err error
	me := owner{PID: os.Getpid(), Started: time.Now(), Instance: s.Instance}
	if j.lock, err = lock(j.cfg.Dir, me); err != nil {
		return err
	}
	removeUnfinished(j.cfg.Dir)
	var found [lanes]*recovery
	for lane := range Lane(lanes) {
		if j.lanes[lane], found[lane], err = openLane(lane, &j.cfg, s.open); err != nil {
			return err
		}
		if found[lane].why != nil {
			j.log.Warn("the end of the journal was torn and is cut off", "lane", lane.String(),
				"bytes", found[lane].cut, "reason", found[lane].why, "kept_as", found[lane].moved)
		}
	}
	if j.state, err = openState(j.cfg.Dir); err != nil {
		return err
	}
	if j.key, err = openKey(&j.cfg); err != nil {
		return err
	}
	if err := j.openQuarantine(); err != nil {
		return err
	}
	return j.account(found, s)
}

// removeUnfinished removes what replacing files left when it was killed, that of older versions among it.
func removeUnfinished(dir string) {
	for _, pattern := range []string{"*.new-*", "cursors/*.new-*", replace.Unfinished, "cursors/" + replace.Unfinished} {
		names, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, name := range names {
			_ = os.Remove(name)
		}
	}
}

// account finds out what the previous start made and did not leave here, and begins this one.
func (j *Journal) account(found [lanes]*recovery, s *Settings) error {
	id := j.state.journal()
	known := true // whether the state is about these lanes
	for _, l := range j.lanes {
		if l.id != [16]byte{} && l.id != id {
			known, id = false, l.id
		}
	}
	if !known {
		clear(j.state.page[stateJournal:])
		copy(j.state.page[stateJournal:], id[:])
	}
	heads, err := readHeads(filepath.Join(j.cfg.Dir, headName))
	if err != nil {
		j.log.Warn("the latest checkpoints of the journal are not known", "error", err)
	}
	j.survey()
	epoch := j.state.get(stateEpoch)
	var next [lanes]uint64
	var stored, torn [lanes]uint64
	for lane, l := range j.lanes {
		l.id, l.note, l.onEvict = id, j.publish, j.evicting
		lane := Lane(lane)
		want := l.head
		if known {
			want = max(want, j.state.head(lane))
			if start := j.state.start(lane); l.head >= start {
				stored[lane] = l.head - max(start, 1)
			} else {
				torn[lane] = start - l.head
			}
		}
		for i := range heads {
			if heads[i].Lane == lane.String() && heads[i].verify(j.key.Public().(ed25519.PublicKey)) == nil {
				j.heads[lane], want = &heads[i], max(want, heads[i].Ordinal)
			}
		}
		if want-l.head > maxGap {
			return fmt.Errorf("the lane %s ends at record %d and should reach to %d: is the folder another journal's?", lane, l.head, want)
		}
		if want > l.head {
			j.log.Warn("records of the journal are gone", "lane", lane.String(), "first", l.head, "last", want-1)
		}
		l.lacking = uint32(want - l.head)
		next[lane] = want
		epoch = max(epoch, uint64(found[lane].epoch))
	}
	j.reckon(&reckoning{known: known, priority: found[Priority], stored: stored, torn: torn})
	epoch++
	for _, l := range j.lanes {
		l.epoch = uint32(epoch)
		j.publish(l)
	}
	j.state.begin(s.Instance, uint32(epoch), next, untold{
		events: j.lost[reasonCrash] + j.lost[reasonTorn],
		spans:  j.lostSpans[reasonCrash] + j.lostSpans[reasonTorn] + j.lostSpans[reasonUnfinished],
	})
	return nil
}

// reckoning is what the start before left: by its state, and by the lanes.
type reckoning struct {
	// known says whether the state is about these lanes.
	known    bool
	priority *recovery
	// stored is how many records it added to each lane, torn how many it had added to before are not there.
	stored, torn [lanes]uint64
}

// reckon finds out what the start before made and did not leave here.
func (j *Journal) reckon(r *reckoning) {
	note := func(lost map[string]uint64, reason string, n uint64) {
		if n > 0 && n < maxBelieved {
			lost[reason] += n
		}
	}
	stored, accounted := r.stored[Priority]+r.stored[Events], uint64(0)
	if r.priority.epoch != 0 && uint64(r.priority.epoch) == j.state.get(stateEpoch) {
		accounted = r.priority.accounted
	}
	note(j.lost, reasonTorn, r.torn[Priority]+r.torn[Events])
	note(j.lostSpans, reasonTorn, r.torn[Spans])
	if !r.known {
		return
	}
	if produced := j.state.get(stateProduced); produced > stored+accounted && produced < maxBelieved {
		note(j.lost, reasonCrash, produced-stored-accounted)
		j.before.crash = j.lost[reasonCrash]
		j.log.Warn("the previous start did not leave all of its events in the journal", "instance", j.state.instance(),
			"produced", produced, "stored", stored, "known_lost", accounted, "lost", j.lost[reasonCrash],
			"ended_orderly", j.state.get(stateClean) == 1)
	}
	if produced, kept := j.state.get(stateSpansProduced), r.stored[Spans]+j.state.get(stateSpansAccounted); produced > kept {
		note(j.lostSpans, reasonCrash, produced-kept)
	}
	if j.state.get(stateClean) == 0 {
		note(j.lostSpans, reasonUnfinished, j.state.get(stateSpansOpen))
	}
	// What the start before was killed before it could tell.
	note(j.lost, reasonCrash, j.state.get(stateUntold))
	note(j.lostSpans, reasonCrash, j.state.get(stateSpansUntold))
}

// maxBelieved is more events than any start makes: a page that says so is damaged.
const maxBelieved = 1 << 44

// maxGap is the most records that a gap lacks.
const maxGap = 1<<32 - 1

// Resize puts other bounds in force: MaxBytes, PriorityBytes, SpansBytes and MaxAge of a valid configuration.
func (j *Journal) Resize(cfg *Config) {
	j.write.Lock()
	defer j.write.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.cfg.MaxBytes, j.cfg.PriorityBytes, j.cfg.SpansBytes, j.cfg.MaxAge = cfg.MaxBytes, cfg.PriorityBytes, cfg.SpansBytes, cfg.MaxAge
}

// Produced says that the event of this number was made. The next start will know of it, whatever happens.
func (j *Journal) Produced(seq uint64) {
	j.ending.RLock()
	defer j.ending.RUnlock()
	if j.state.page != nil {
		j.state.set(stateProduced, seq)
	}
}

// Told says that losses of earlier starts, so many events in all, are written as events.
func (j *Journal) Told(n uint64) {
	j.ending.RLock()
	defer j.ending.RUnlock()
	if n > 0 && j.state.page != nil {
		j.state.set(stateUntold, j.state.get(stateUntold)-min(n, j.state.get(stateUntold)))
	}
}

// Tells says how many lost events of earlier starts a loss tells of.
func Tells(l *event.Loss) uint64 {
	if l.Stage == event.LossJournal && l.Lost == Name && (l.Reason == reasonCrash || l.Reason == reasonTorn) {
		return l.Count
	}
	return 0
}

// InPriority says whether events of the kind go into the priority lane.
func InPriority(kind event.Kind) bool {
	switch kind {
	case event.KindFinding, event.KindApproval, event.KindPolicyDecision, event.KindClaimMismatch, event.KindLoss:
		return true
	default:
		return false
	}
}

// Append writes the events, and returns when the operating system has them (with SyncAlways the disk), or
// when they are held in memory because the disk takes none, or are counted as lost. accounted is of how
// many events that did not come here the losses among these events tell. The events are only lent.
func (j *Journal) Append(events []event.Encoded, accounted uint64) {
	j.write.Lock()
	defer j.write.Unlock()
	if j.closed {
		j.lose(Events, reasonFailed, uint64(len(events)))
		return
	}
	for lane := range j.split {
		j.split[lane] = j.split[lane][:0]
	}
	free := uint64(0)
	for i := range events {
		e := &events[i]
		if e.Place.Ring == 0 {
			free++
		}
		if len(e.Record)+len(e.Resource)+len(e.Session) > maxRecord {
			j.lose(Events, reasonTooLarge, 1)
			continue
		}
		lane := Events
		if InPriority(e.Kind) && (e.Kind == event.KindLoss || j.allowance.take(place(e), time.Now())) {
			lane = Priority
		}
		if j.lanes[lane].marker.has(e.Place) {
			accounted++ // the start before has written it
			continue
		}
		j.split[lane] = append(j.split[lane], *e)
	}
	j.lanes[Priority].accounted += accounted
	for lane := range Lane(eventLanes) {
		j.append(lane, j.split[lane])
		clear(j.split[lane])
	}
	j.settle(lastPlace(events), free)
	if j.cfg.Sync == SyncAlways {
		j.sync()
	}
	j.wake()
}

// append writes events of one lane, or holds them.
func (j *Journal) append(lane Lane, events []event.Encoded) {
	if j.held[lane].waiting() && !j.resume(lane) {
		j.hold(lane, events, j.held[lane].why)
		return
	}
	if n, err := j.put(lane, events); err != nil {
		j.complain("the journal cannot be written; events are held in memory, and lost when that is full", err)
		j.hold(lane, events[n:], err)
	}
}

// put writes events of one lane, and makes room where that helps.
func (j *Journal) put(lane Lane, events []event.Encoded) (int, error) {
	done := 0
	for {
		n, err := j.lanes[lane].appendEvents(events[done:])
		done += n
		if err == nil {
			return done, nil
		}
		if !full(err) || !j.makeRoom(lane) {
			return done, err
		}
	}
}

// makeRoom removes a segment because the disk is full: the oldest one of spans or, unless it is for spans, of events,
// if all destinations are through with it; for the priority lane's sake any.
func (j *Journal) makeRoom(lane Lane) bool {
	for _, victim := range []Lane{Spans, Events} {
		l := j.lanes[victim]
		if !l.evictable() || lane == Spans && victim != Spans || lane != Priority && !j.delivered(victim, l.segments[1].base) {
			continue
		}
		j.log.Warn("the disk is full: the oldest records of the journal are removed", "segment", l.segments[0].path)
		l.evict()
		return true
	}
	return false
}

// delivered says whether every destination is through with the lane's records before the ordinal.
func (j *Journal) delivered(lane Lane, ordinal uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !slices.ContainsFunc(j.cursors, func(c *Cursor) bool { return slices.Contains(c.of, lane) && c.done[lane] < ordinal })
}

// holding is the events of a lane that wait in memory for the disk.
type holding struct {
	events []event.Encoded
	bytes  int64
	why    error
	// resource is the last one's, which the next mostly shares.
	resource []byte
}

func (h *holding) waiting() bool { return len(h.events) > 0 }

// room is how many bytes of events of a lane are held.
func (j *Journal) room(lane Lane) int64 {
	priority, spans := j.cfg.MemoryBytes/4, j.cfg.MemoryBytes/8
	switch lane {
	case Priority:
		return priority
	case Spans:
		return spans
	default:
		return j.cfg.MemoryBytes - priority - spans
	}
}

// hold keeps copies of events until they can be written. Those for which there is no room are lost.
func (j *Journal) hold(lane Lane, events []event.Encoded, why error) {
	h := &j.held[lane]
	h.why = why
	for i := range events {
		e := events[i]
		size := int64(len(e.Record)) + 256
		if !bytes.Equal(e.Resource, h.resource) {
			size += int64(len(e.Resource))
		}
		if h.bytes+size > j.room(lane) {
			reason := reasonFailed
			if full(why) {
				reason = reasonFull
			}
			j.lose(lane, reason, 1)
			continue
		}
		if !bytes.Equal(e.Resource, h.resource) {
			h.resource = bytes.Clone(e.Resource)
		}
		e.Resource, e.Record = h.resource, bytes.Clone(e.Record)
		h.events, h.bytes = append(h.events, e), h.bytes+size
	}
}

// resume writes what is held. False means that the disk still takes none.
func (j *Journal) resume(lane Lane) bool {
	h := &j.held[lane]
	n, err := j.put(lane, h.events)
	if err != nil {
		h.why = err
		for i := range h.events[:n] {
			h.bytes -= int64(len(h.events[i].Record)) + 256
		}
		h.events = slices.Delete(h.events, 0, n)
		return false
	}
	if n > 0 {
		j.log.Info("the journal can be written again", "lane", lane.String(), "events", n)
	}
	*h = holding{}
	return true
}

func (j *Journal) lose(lane Lane, reason string, n uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if lane == Spans {
		j.lostSpans[reason] += n
	} else {
		j.lost[reason] += n
	}
}

// complain logs a trouble, but not more often than people want to read of it. The caller holds write.
func (j *Journal) complain(what string, err error) {
	if now := time.Now(); now.Sub(j.complaints[what]) >= complaintInterval {
		j.complaints[what] = now
		j.log.Error("trouble with the journal", "what", what, "error", err)
	}
}

// publish shows readers what a lane has become.
func (j *Journal) publish(l *laneWriter) {
	j.mu.Lock()
	defer j.mu.Unlock()
	v := &j.view[l.lane]
	v.segments = append(v.segments[:0], l.segments...)
	v.head, v.total = l.end(), l.total
	j.state.setHead(l.lane, v.head)
}

// evicting settles with the destinations before a segment is removed.
func (j *Journal) evicting(lane Lane, s *segment) {
	end := j.lanes[lane].segments[1].base
	j.mu.Lock()
	j.evicted[lane] += end - s.base
	var behind []*Cursor
	for _, c := range j.cursors {
		if c.evict(lane, s.base, end) {
			behind = append(behind, c)
		}
	}
	j.mu.Unlock()
	for _, c := range behind {
		if err := c.save(); err != nil {
			j.complain("a cursor cannot be written", err)
		}
	}
}

func (j *Journal) wake() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.cursors {
		c.wake()
	}
}

// sync forces what was written to the disk.
func (j *Journal) sync() {
	for _, l := range j.lanes {
		if err := l.sync(); err != nil {
			j.syncErrors.Add(1)
			j.distrust(l, err)
		}
	}
}

// distrust begins a new segment after the disk failed: what it took of the old one is not certain, and
// asking again would not say. The caller holds write.
func (j *Journal) distrust(l *laneWriter, err error) {
	j.complain("what was written cannot be forced to the disk; a crash of the machine may take it", err)
	if err := l.rotate(); err != nil {
		j.complain("no new segment can be begun", err)
	}
}

// keepHouse does what is due from time to time.
func (j *Journal) keepHouse() {
	interval := time.Second
	if j.cfg.Sync == SyncInterval {
		interval = min(interval, j.cfg.SyncInterval)
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	synced := time.Now()
	for {
		select {
		case <-ticker.C:
		case <-j.stop:
			return
		}
		if j.cfg.Sync == SyncInterval && time.Since(synced) >= j.cfg.SyncInterval {
			j.syncAside()
			synced = time.Now()
		}
		j.tidy()
	}
}

// syncAside forces what was written to the disk while others append.
func (j *Journal) syncAside() {
	for _, l := range j.lanes {
		err := l.sync()
		if err == nil {
			continue
		}
		j.syncErrors.Add(1)
		j.write.Lock()
		j.distrust(l, err)
		j.write.Unlock()
	}
}

// tidy writes what is held, removes what is too old and signs.
func (j *Journal) tidy() {
	j.write.Lock()
	defer j.write.Unlock()
	wrote := false
	for lane := range Lane(lanes) {
		if j.held[lane].waiting() && j.resume(lane) {
			wrote = true
		}
		if j.cfg.MaxAge > 0 {
			j.lanes[lane].expire(j.cfg.MaxAge)
		}
	}
	if wrote {
		j.wake()
	}
	if time.Since(j.signed) >= j.cfg.CheckpointInterval {
		j.checkpoint()
	}
}

// checkpoint signs both lanes. The caller holds write.
func (j *Journal) checkpoint() {
	j.signed = time.Now()
	changed := false
	for _, l := range j.lanes {
		c, err := l.checkpoint(j.key)
		if err != nil {
			j.complain("the journal cannot be signed", err)
		}
		if c != nil {
			j.heads[l.lane], changed = c, true
			j.publish(l)
		}
	}
	if !changed {
		return
	}
	j.checkpoints.Add(1)
	var heads []*Checkpoint
	for _, c := range j.heads {
		if c != nil {
			heads = append(heads, c)
		}
	}
	text, err := json.MarshalIndent(heads, "", "  ")
	if err == nil {
		err = replace.File(filepath.Join(j.cfg.Dir, headName), append(text, '\n'), 0o600)
	}
	if err != nil {
		j.complain("the latest checkpoints cannot be written", err)
	}
}

// Close writes what is held, signs and forces all to the disk, and lets go of the folder. Its error says
// what could not be kept.
func (j *Journal) Close() error {
	close(j.stop)
	j.housekeeping.Wait()
	j.write.Lock()
	defer j.write.Unlock()
	var errs []error
	for lane := range Lane(lanes) {
		if h := &j.held[lane]; h.waiting() && !j.resume(lane) {
			j.lose(lane, reasonFailed, uint64(len(h.events)))
			errs = append(errs, fmt.Errorf("journal: %d events of the lane %s could not be written: %w", len(h.events), lane, h.why))
		}
	}
	j.checkpoint()
	j.closed = true
	for _, l := range j.lanes {
		errs = append(errs, l.sync())
	}
	if len(errs) == lanes {
		j.state.set(stateClean, 1)
	}
	return errors.Join(append(errs, j.release())...)
}

// release gives back what is open.
func (j *Journal) release() error {
	var errs []error
	for _, c := range j.cursors {
		errs = append(errs, c.close())
	}
	for _, l := range j.lanes {
		if l != nil {
			errs = append(errs, l.leave())
		}
	}
	errs = append(errs, j.closeQuarantine())
	if j.state != nil {
		j.ending.Lock()
		errs = append(errs, j.state.close())
		j.ending.Unlock()
	}
	if j.lock != nil {
		errs = append(errs, j.lock.Close())
	}
	return errors.Join(errs...)
}

// Losses is what was lost here so far, for the pipeline to report.
func (j *Journal) Losses() []event.LossCounter {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []event.LossCounter
	for reason, n := range j.lost {
		list = append(list, event.LossCounter{Stage: event.LossJournal, Lost: Name, Reason: reason, Count: n})
	}
	for reason, n := range j.lostSpans {
		list = append(list, event.LossCounter{Stage: event.LossJournal, Lost: SpansName, Reason: reason, Count: n})
	}
	for _, c := range j.cursors {
		for reason, n := range map[string]uint64{reasonEvicted: c.evicted, reasonDamaged: c.damaged} {
			if n > 0 {
				list = append(list, event.LossCounter{Stage: event.LossJournal, Lost: c.name, Reason: reason, Count: n})
			}
		}
	}
	return list
}

// Accounts says how many events that should have come into the journal, but did not, a loss tells of.
func Accounts(l *event.Loss) uint64 {
	if l.Lost != Name {
		return 0
	}
	switch l.Reason {
	case reasonCrash, reasonTorn: // of an earlier start
		return 0
	default:
		return l.Count
	}
}

// Stats is the journal's account of itself.
func (j *Journal) Stats() event.JournalStats {
	j.mu.Lock()
	defer j.mu.Unlock()
	stats := event.JournalStats{
		Quarantined: j.count.Load(),
		Dir:         j.cfg.Dir, SyncErrors: j.syncErrors.Load(), Checkpoints: j.checkpoints.Load(),
	}
	for lane := range Lane(lanes) {
		v := &j.view[lane]
		first := v.head
		if len(v.segments) > 0 {
			first = v.segments[0].base
		}
		stats.Lanes = append(stats.Lanes, event.LaneStats{
			Name: lane.String(), Bytes: v.total, MaxBytes: j.cfg.budget(lane), Segments: len(v.segments),
			First: first, Next: v.head, Evicted: j.evicted[lane],
		})
	}
	for _, c := range j.cursors {
		stats.Cursors = append(stats.Cursors, c.stats())
	}
	return stats
}
