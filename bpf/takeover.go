// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/watchglass/watchglass/event"
)

// openPins takes the pins that the configuration wants. Without a bpffs the tracer works, and ends with this process.
func (t *Tracer) openPins() error {
	if t.cfg.Pins == nil {
		t.cfg.Hold = nil
		return nil
	}
	pins, err := openPins(t.cfg.Pins)
	if err != nil {
		if held := new(PinsHeldError); errors.As(err, &held) {
			return err
		}
		t.pinsErr, t.cfg.Hold = explain(err), nil
		t.log.Warn("nothing outlives this process: what happens between its end and the next start is not seen", "error", t.pinsErr)
		return nil
	}
	t.pins = pins
	form, err := layoutOf(t.probes, t.prepare)
	if err != nil {
		return fmt.Errorf("comparing with the pins in %s: %w", t.cfg.Pins.Dir, err)
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // documented never to fail
	if err := pins.begin(form, binary.NativeEndian.Uint64(id[:])>>1|1); err != nil {
		return err
	}
	if pins.was.Layout == "" {
		return nil
	}
	if t.tracked, err = pins.remembered(); err != nil {
		return err
	}
	return nil
}

// enterRemembered enters the sandboxes of the tracer before into new maps, before any program looks there.
func (t *Tracer) enterRemembered() error {
	if t.pins == nil || t.pins.continues() || t.shared["sandboxes"] == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, dir := range t.tracked {
		if err := errors.Join(t.openCounts(id), t.enter(id, dir)); err != nil {
			return fmt.Errorf("taking over the sandbox %d: %w", id, err)
		}
	}
	return nil
}

// takeOver ends what is left of the tracer before, now that all hooks have this one's programs.
func (t *Tracer) takeOver() error {
	if t.pins == nil {
		return nil
	}
	t.ringID = t.pins.now.Ring
	if t.pins.how == event.PinningReplaced {
		// Once more: a cgroup may have been made after the maps were filled and before the hooks were taken over.
		if err := t.enterRemembered(); err != nil {
			return err
		}
		if err := t.openOld(); err != nil {
			t.log.Warn("what the tracer before has seen and not told is lost", "error", err)
		}
	}
	failed := func(probe string) bool {
		for i := range t.probes {
			if p := &t.probes[i]; p.name == probe {
				return p.err != nil && t.pins.continues()
			}
		}
		return false
	}
	if err := errors.Join(t.pins.prune(failed), t.pins.commit()); err != nil {
		return fmt.Errorf("taking over the pins in %s: %w", t.cfg.Pins.Dir, err)
	}
	if t.pins.how != event.PinningStarted {
		t.takenOver = t.describe()
		t.log.Info("took over from another collector", "how", string(t.pins.how), "pid", t.pins.was.PID,
			"version", t.pins.was.Version, "sandboxes", len(t.tracked), "ring", string(t.takenOver.Ring), "unread_bytes", t.takenOver.Unread)
	}
	return nil
}

// TakenOver is how the tracer goes on where another ended; nil where it does not.
func (t *Tracer) TakenOver() *event.Takeover { return t.takenOver }

// describe is what there is to tell of a takeover, before anything of it is read.
func (t *Tracer) describe() *event.Takeover {
	told := &event.Takeover{
		How: t.pins.how, Ring: event.RingContinued, Unread: t.ring.unread(),
		Version: t.pins.was.Version, PID: t.pins.was.PID, Sandboxes: len(t.tracked),
	}
	if t.pins.continues() {
		return told
	}
	told.Ring, told.Unread = event.RingDiscarded, 0
	if t.old != nil {
		told.Unread = t.old.unread()
		if t.pins.was.Records == t.pins.now.Records {
			told.Ring = event.RingRead
		}
	}
	return told
}

// openOld maps the ring of the layout before, to be read before the new one. Records that mean something else now
// are counted as undecoded, which is a loss.
func (t *Tracer) openOld() error {
	m, err := ebpf.LoadPinnedMap(filepath.Join(t.pins.mapsDir(t.pins.was.Layout), "events"), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening the old ring: %w", err)
	}
	defer m.Close() //nolint:errcheck // the mapping holds it
	old, err := openRecords(m)
	if err != nil {
		return fmt.Errorf("opening the old ring: %w", err)
	}
	t.old = old
	return nil
}

// readOld delivers what the ring of the layout before holds.
func (t *Tracer) readOld(handle func(*Record)) error {
	if t.old == nil {
		return nil
	}
	t.mu.Lock()
	current := t.ring
	t.ring, t.ringID = t.old, t.pins.was.Ring
	t.mu.Unlock()
	var err error
	if t.pins.was.Records == t.pins.now.Records {
		err = t.drain(handle)
	} else {
		err = t.discard()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ring, t.ringID = current, t.pins.now.Ring
	err = errors.Join(err, t.old.close())
	t.old = nil
	return err
}

// discard counts what the ring holds.
func (t *Tracer) discard() error {
	for {
		data, err := t.ring.next()
		if data == nil || err != nil {
			return err
		}
		t.undecoded.Add(1)
	}
}

// Pinning is how the tracer came by its programs and maps, and why nothing is pinned where it should be.
func (t *Tracer) Pinning() (event.Pinning, error) {
	if t.pins == nil {
		return event.PinningOff, t.pinsErr
	}
	return t.pins.how, nil
}

// RingID is the identity of the ring that Positions are in; 0 when it ends with this process.
func (t *Tracer) RingID() uint64 {
	if t.pins == nil {
		return 0
	}
	return t.pins.now.Ring
}

// ResumedRing is the ring of the tracer before, 0 when it is not read on.
func (t *Tracer) ResumedRing() uint64 {
	if t.pins == nil || t.pins.how == event.PinningStarted || t.pins.was.Records != t.pins.now.Records {
		return 0
	}
	return t.pins.was.Ring
}

// CaughtUp says whether everything was delivered that was seen before the tracer was opened.
func (t *Tracer) CaughtUp() bool { return t.caughtUp.Load() }

// preview delivers which processes were alive when the tracer was opened, before what was recorded until then: so that
// of what those did it is known who they are. Of processes that began or became what they are in between, the
// records tell in their turn.
func (t *Tracer) preview(handle func(*Record)) error {
	type life struct {
		pid   uint32
		start uint64
	}
	began := map[life]bool{}
	for at := t.ring.at; ; {
		data, after, err := t.ring.look(at)
		if data == nil || err != nil {
			return err
		}
		at = after
		r, err := t.dec.decode(data)
		if err != nil {
			continue // it is counted in its turn
		}
		who := life{r.Task.PID, r.Task.Start}
		switch payload := r.Payload.(type) {
		case *Fork, *event.ProcessExec:
			began[who] = true
		case *Existing:
			if !began[who] {
				payload.Args, r.Truncated = readArguments(&r.Task)
				handle(r)
			}
		}
	}
}

// RememberedSandbox is a sandbox that the tracer before watched, and this one goes on to watch.
type RememberedSandbox struct {
	// ID is the cgroup's id, Path its path below the cgroup2 mount. It may be gone; its last records tell so.
	ID   uint64
	Path string
}

// Remembered is the sandboxes that the tracer before watched. Untrack those that are not to be watched any more.
func (t *Tracer) Remembered() []RememberedSandbox {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pins == nil || t.pins.how == event.PinningStarted {
		return nil
	}
	var all []RememberedSandbox
	for id, dir := range t.tracked {
		all = append(all, RememberedSandbox{ID: id, Path: "/" + strings.Trim(strings.TrimPrefix(dir, t.mount), "/")})
	}
	return all
}

// lossAccount is one account of losses as it is pinned.
type lossAccount struct{ Sandbox, Slot uint64 }

// lossTold is how much of it was told.
type lossTold struct{ Dropped, Throttled uint64 }

// LossesTold says that these losses were told: the next tracer's owner need not tell of them.
func (t *Tracer) LossesTold(counts []SandboxCounts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pins == nil || t.closed.Load() {
		return
	}
	for _, c := range counts {
		if slot, ok := t.slotOf(c.Probe, c.Kind); ok && c.Dropped+c.Throttled > 0 {
			// One that has no room is told again.
			_ = t.pins.losses.Put(lossAccount{c.Sandbox, slot}, lossTold{c.Dropped, c.Throttled})
		}
	}
}

// ToldLosses is the losses that were told of the sandboxes that the tracer before watched.
func (t *Tracer) ToldLosses() []SandboxCounts {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pins == nil || !t.pins.continues() {
		return nil
	}
	var counts []SandboxCounts
	var gone []lossAccount
	var account lossAccount
	var told lossTold
	entries := t.pins.losses.Iterate()
	for entries.Next(&account, &told) {
		if _, watched := t.tracked[account.Sandbox]; !watched && account.Sandbox != 0 {
			gone = append(gone, account)
			continue
		}
		for i := range t.probes {
			p := &t.probes[i]
			if kind := int(account.Slot) - p.slot; kind >= 0 && kind <= len(p.kinds) {
				counts = append(counts, SandboxCounts{
					Sandbox: account.Sandbox, Probe: p.name, Kind: p.kindName(kind), Dropped: told.Dropped, Throttled: told.Throttled,
				})
			}
		}
	}
	for _, account := range gone {
		_ = t.pins.losses.Delete(account)
	}
	return counts
}

// slotOf is the account of a kind of records.
func (t *Tracer) slotOf(probe, kind string) (uint64, bool) {
	for i := range t.probes {
		p := &t.probes[i]
		if p.name != probe {
			continue
		}
		for k := range len(p.kinds) + 1 {
			if p.kindName(k) == kind {
				return uint64(p.slot + k), true
			}
		}
	}
	return 0, false
}

// closePins lets go of the pins, or removes them.
func (t *Tracer) closePins() error {
	keep := t.cfg.Pins.Keep && t.pins.now.Layout != ""
	dir := t.cfg.Pins.Dir
	if !keep {
		if err := removePins(dir); err != nil {
			return errors.Join(err, t.pins.close())
		}
	}
	return t.pins.close()
}

func closeMaps(all []*ebpf.Map) {
	for _, m := range all {
		_ = m.Close()
	}
}
