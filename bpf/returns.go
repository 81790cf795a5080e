// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Kretprobes are how one program comes to the returns of many functions where the kernel has no fprobe. Why as an event of
// tracefs: the kernel follows only so many calls of a function to their returns, and tells nobody of the others where a
// kretprobe is asked for by perf_event_open(2) alone. An event says how many there is room for, and what it missed. And all
// of the functions are one event: one link holds them, and they come and go at once.
const (
	// returnGroup is the group of all events of Watchglass's, of whatever process.
	returnGroup = "watchglass"
	// returnEvent and heldEvent begin the names of the two events of a set, before its id. The second is there to be
	// asked whether somebody uses the first: the kernel refuses to remove an event of one function that is in use, and
	// takes from one of many all functions but the last.
	returnEvent = "returns_"
	heldEvent   = "held_"
	// returnsAtOnce is how many calls of a function the kernel can follow to their returns at a time. Each takes 64 bytes.
	// The most that the kernel takes is 4096.
	returnsAtOnce = 512
	// eventsWait bounds the wait for another process that adds or removes events, and for an event to be free, which it is
	// some time after the last link is gone; eventsPause is between two looks.
	eventsWait  = 30 * time.Second
	eventsPause = 10 * time.Millisecond
)

// traceFiles is the kernel's files of events, held against other tracers that change those of Watchglass.
type traceFiles struct {
	dir string
	// mount is the mount that dir lies in where nobody else has one; events is kprobe_events, and the lock.
	mount, events *os.File
}

// openTraceFiles opens the files of events, where there are any.
func openTraceFiles() (*traceFiles, error) {
	var errs []error
	for _, dir := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		f := &traceFiles{dir: dir}
		err := f.open()
		if err == nil {
			return f, nil
		}
		errs = append(errs, err)
	}
	f, err := mountTraceFiles()
	if err != nil {
		return nil, errors.Join(err, errors.Join(errs...))
	}
	return f, nil
}

// mountTraceFiles opens them by a mount that nobody else sees and that ends with the descriptor: in a container there may
// be no other.
func mountTraceFiles() (*traceFiles, error) {
	context, err := unix.Fsopen("tracefs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("opening tracefs: %w", err)
	}
	defer unix.Close(context) //nolint:errcheck // nothing was written that waits
	if err := unix.FsconfigCreate(context); err != nil {
		return nil, fmt.Errorf("opening tracefs: %w", err)
	}
	mount, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, fmt.Errorf("opening tracefs: %w", err)
	}
	f := &traceFiles{dir: "/proc/self/fd/" + strconv.Itoa(mount), mount: os.NewFile(uintptr(mount), "tracefs")}
	if err := f.open(); err != nil {
		return nil, errors.Join(err, f.mount.Close())
	}
	return f, nil
}

// open opens the list of events.
func (f *traceFiles) open() (err error) {
	f.events, err = os.OpenFile(filepath.Join(f.dir, "kprobe_events"), os.O_WRONLY|os.O_APPEND, 0)
	return err
}

// hold waits until no other tracer changes the events of Watchglass, and keeps others from it until close. The file is the
// same one by whatever mount.
func (f *traceFiles) hold() error {
	for deadline := time.Now().Add(eventsWait); ; time.Sleep(eventsPause) {
		err := unix.Flock(int(f.events.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			return fmt.Errorf("locking %s: %w", f.events.Name(), err)
		}
	}
}

func (f *traceFiles) close() error {
	// Not only closed: a child between fork and exec has it too.
	err := errors.Join(unix.Flock(int(f.events.Fd()), unix.LOCK_UN), f.events.Close())
	if f.mount != nil {
		err = errors.Join(err, f.mount.Close())
	}
	return err
}

// withTraceFiles does something while no other tracer changes the events of Watchglass.
func withTraceFiles(do func(*traceFiles) error) error {
	f, err := openTraceFiles()
	if err != nil {
		return fmt.Errorf("opening the kernel's list of kprobes: %w", err)
	}
	if err := f.hold(); err != nil {
		return errors.Join(err, f.close())
	}
	return errors.Join(do(f), f.close())
}

// add adds to an event the return of a function, which the kernel follows so many calls of at a time.
func (f *traceFiles) add(event, function string, atOnce int) error {
	_, err := fmt.Fprintf(f.events, "r%d:%s/%s %s\n", atOnce, returnGroup, event, function)
	if err != nil {
		return fmt.Errorf("adding the return of %s: %w", function, err)
	}
	return nil
}

// remove removes an event that has one function, or is in nobody's use; one that is not there is removed.
func (f *traceFiles) remove(event string) error {
	_, err := fmt.Fprintf(f.events, "-:%s/%s\n", returnGroup, event)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the event %s: %w", event, err)
	}
	return nil
}

// removeSet removes the events of a set that nobody uses. Whether somebody does the kernel knows: the error is EBUSY then.
func (f *traceFiles) removeSet(id string) error {
	if err := f.remove(heldEvent + id); err != nil {
		return err
	}
	return f.remove(returnEvent + id)
}

// sets is the ids of all sets of events of Watchglass's, each once.
func (f *traceFiles) sets() ([]string, error) {
	list, err := os.ReadFile(f.events.Name())
	if err != nil {
		return nil, fmt.Errorf("listing events: %w", err)
	}
	var ids []string
	for line := range strings.Lines(string(list)) {
		// r512:group/event function
		name, _, _ := strings.Cut(line, " ")
		_, name, _ = strings.Cut(name, ":")
		event, ours := strings.CutPrefix(name, returnGroup+"/")
		if !ours {
			continue
		}
		for _, kind := range []string{returnEvent, heldEvent} {
			if id, found := strings.CutPrefix(event, kind); found && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

// attach has a program run at the event, for as long as the link is there.
func (f *traceFiles) attach(event string, program *ebpf.Program) (link.Link, error) {
	said, err := os.ReadFile(filepath.Join(f.dir, "events", returnGroup, event, "id"))
	if err != nil {
		return nil, fmt.Errorf("reading the number of an event: %w", err)
	}
	number, err := strconv.ParseUint(strings.TrimSpace(string(said)), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("reading the number of event %s: %w", event, err)
	}
	// Of one processor, and counting nothing: the program runs on all of them all the same, whether this is enabled or not.
	fd, err := unix.PerfEventOpen(&unix.PerfEventAttr{
		Type: unix.PERF_TYPE_TRACEPOINT, Size: unix.PERF_ATTR_SIZE_VER1, Config: number, Bits: unix.PerfBitDisabled,
	}, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("opening event %s: %w", event, err)
	}
	defer unix.Close(fd) //nolint:errcheck // the link holds it
	l, err := link.AttachRawLink(link.RawLinkOptions{Target: fd, Program: program, Attach: ebpf.AttachPerfEvent})
	if err != nil {
		return nil, fmt.Errorf("attaching to event %s: %w", event, err)
	}
	return l, nil
}

// missed is how many returns of the functions of a set the kernel did not follow.
func (f *traceFiles) missed(id string) (n uint64, err error) {
	profile, err := os.ReadFile(filepath.Join(f.dir, "kprobe_profile"))
	if err != nil {
		return 0, fmt.Errorf("reading what kprobes missed: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(profile))
	for lines.Scan() {
		// Event, hits, misses; a line for each function.
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 || fields[0] != returnEvent+id {
			continue
		}
		misses, err := strconv.ParseUint(fields[2], 10, 64)
		if err != nil {
			return n, fmt.Errorf("reading what kprobes missed: %w", err)
		}
		n += misses
	}
	return n, nil
}

// newReturnSet is the id of a set of events that nobody has.
func newReturnSet() string {
	var id [8]byte
	_, _ = rand.Read(id[:]) // documented never to fail
	return fmt.Sprintf("%x", id)
}

// returning is how one program hangs on the returns of many functions: by one link to all of them, which needs fprobes, or
// by a kretprobe on each. err is why by neither.
type returning struct {
	each bool
	err  error
}

// tryReturns is how the kernel lets a program hang on the returns of many functions.
func tryReturns() returning {
	many := tryMultiReturn()
	if many == nil {
		return returning{}
	}
	each := tryEachReturn()
	if each == nil {
		return returning{each: true}
	}
	return returning{err: fmt.Errorf("neither on all at once (since Linux 5.18, with CONFIG_FPROBE): %s; nor on one by one (kretprobes, with CONFIG_KPROBE_EVENTS): %s",
		firstLine(many), firstLine(each))}
}

// tryEachReturn attaches a program for a moment to the return of a function by a kretprobe.
func tryEachReturn() error {
	set := newReturnSet()
	return withTraceFiles(func(f *traceFiles) error {
		if err := f.add(heldEvent+set, triedFunction, 1); err != nil {
			return err
		}
		err := try(&ebpf.ProgramSpec{Type: ebpf.Kprobe}, func(p *ebpf.Program) (link.Link, error) {
			return f.attach(heldEvent+set, p)
		})
		return errors.Join(err, f.removeSet(set))
	})
}

// hangOnEach attaches a program to the returns of functions, a kretprobe on each.
func (t *Tracer) hangOnEach(p *loadedProbe, functions []string) error {
	name := p.trampolines.each
	base := name + "@" + digestOf(functions) + "+"
	if p.returnSet = t.pins.returnSet(p.name + "-" + base); p.returnSet == "" {
		p.returnSet = newReturnSet()
	}
	return withTraceFiles(func(f *traceFiles) error {
		held, returns := heldEvent+p.returnSet, returnEvent+p.returnSet
		err := t.hangAtEvent(p, base+held, func(program *ebpf.Program) (link.Link, error) {
			if err := f.add(held, triedFunction, 1); err != nil {
				return nil, err
			}
			return f.attach(held, program)
		})
		if err != nil {
			return err
		}
		err = t.hangAtEvent(p, base+returns, func(program *ebpf.Program) (link.Link, error) {
			for _, function := range functions {
				if err := f.add(returns, function, returnsAtOnce); err != nil {
					return nil, err
				}
			}
			return f.attach(returns, program)
		})
		if err != nil {
			return fmt.Errorf("hanging %s on %d functions: %w", name, len(functions), err)
		}
		// What is missed and nobody can see would be silent.
		_, err = f.missed(p.returnSet)
		return err
	})
}

// hangAtEvent attaches the program for kretprobes, by attach, and keeps the link before those that it has: the events' user
// goes after the events.
func (t *Tracer) hangAtEvent(p *loadedProbe, name string, attach func(*ebpf.Program) (link.Link, error)) error {
	program := p.trampolines.each
	l, err := t.pins.attachKept(p.name, placed{name: name, hook: p.hooks[program], program: p.collection.Programs[program]}, attach)
	if err != nil {
		return err
	}
	p.hangAt(onEntries, l)
	slices.Reverse(p.hangings[onEntries])
	return nil
}

// missedReturns is how many returns the kernel did not follow, for want of room, where the probe hangs by kretprobes.
func (p *loadedProbe) missedReturns() uint64 {
	if p.returnSet == "" || len(p.hangings[onEntries]) == 0 {
		return 0
	}
	f, err := openTraceFiles()
	if err != nil {
		return 0
	}
	defer f.close() //nolint:errcheck // nothing was written
	n, _ := f.missed(p.returnSet)
	return n
}

// returnSet is the id of the set of events whose links the tracer before left pinned, by the beginning of their names. "" is
// none, or half of one.
func (p *pins) returnSet(base string) string {
	if p == nil {
		return ""
	}
	hooks, err := hookNames(p.cfg.Dir)
	if err != nil {
		return ""
	}
	for _, id := range returnSetsIn(hooks) {
		whole := true
		for _, event := range []string{heldEvent, returnEvent} {
			for _, kind := range []string{pinLink, pinSlot} {
				whole = whole && slices.Contains(hooks, base+event+id+kind)
			}
		}
		if whole {
			return id
		}
	}
	return ""
}

// hookNames is the names of what is pinned of hooks in a directory of pins.
func hookNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, pinHooks))
	if err != nil {
		return nil, fmt.Errorf("listing the hooks: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// returnSetsIn is the ids of the sets of events that the names of pinned hooks tell, each once.
func returnSetsIn(hooks []string) []string {
	var ids []string
	for _, name := range hooks {
		for _, event := range []string{heldEvent, returnEvent} {
			if _, rest, found := strings.Cut(name, "+"+event); found {
				id, _, _ := strings.Cut(rest, "-")
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// removeReturns removes the events of the tracer, whose links are gone.
func (t *Tracer) removeReturns() error {
	var ids []string
	for i := range t.probes {
		if id := t.probes[i].returnSet; id != "" {
			ids = append(ids, id)
		}
	}
	return removeReturnSets(ids)
}

// removeReturnSets removes sets of events whose links are gone, or about to be.
func removeReturnSets(ids []string) error {
	for deadline := time.Now().Add(eventsWait); len(ids) > 0; time.Sleep(eventsPause) {
		var used []string
		err := withTraceFiles(func(f *traceFiles) (err error) {
			for _, id := range ids {
				e := f.removeSet(id)
				if errors.Is(e, unix.EBUSY) {
					used = append(used, id)
				}
				err = errors.Join(err, e)
			}
			return err
		})
		if err != nil && (len(used) == 0 || time.Now().After(deadline)) {
			return err
		}
		ids = used
	}
	return nil
}

// sweepReturns removes sets of events that nobody uses: those of tracers that were killed.
func (t *Tracer) sweepReturns() {
	err := withTraceFiles(func(f *traceFiles) error {
		ids, err := f.sets()
		for _, id := range ids {
			if e := f.removeSet(id); !errors.Is(e, unix.EBUSY) {
				err = errors.Join(err, e)
			}
		}
		return err
	})
	if err != nil && t.returns.each {
		t.log.Warn("kprobes of a collector that was killed may remain", "error", err)
	}
}
