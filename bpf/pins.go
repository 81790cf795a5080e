// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// Pins says where programs and maps live on when this process does not.
type Pins struct {
	// Dir is a directory of this set of pins alone, in a bpffs. It is made, for root alone.
	Dir string
	// Mount mounts a bpffs at /sys/fs/bpf where there is none and Dir is below it.
	Mount bool
	// Keep leaves everything at work when the Tracer is closed, for the next one. Otherwise Close detaches it.
	Keep bool
	// Version is what others are told of who holds the pins.
	Version string
}

// PinsHeldError says that another process reads the pins.
type PinsHeldError struct{ PinSet }

// Error implements error.
func (e *PinsHeldError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = fmt.Sprintf("process %d, version %q, since %s", e.PID, e.Version, e.Since.Format(time.RFC3339))
	}
	return fmt.Sprintf("the pins in %s are in use by %s: stop it, or set kernel.pins.dir", e.Dir, who)
}

// PinSet is one set of pins.
type PinSet struct {
	Dir string `json:"-"`
	// Held is true while a process reads them; PID, Version and Since are of the last that did.
	Held    bool      `json:"-"`
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Since   time.Time `json:"since"`
	// Layout is a hash of the maps, Records one of the records in the ring, Programs one of the programs.
	Layout   string `json:"layout"`
	Records  string `json:"records"`
	Programs string `json:"programs"`
	// Ring is the ring's identity: positions mean something in one ring only.
	Ring uint64 `json:"ring"`
}

// The entries of the directory. No name in a bpffs may have a dot.
const (
	pinState     = "state"
	pinSandboxes = "sandboxes"
	pinLosses    = "losses"
	pinHooks     = "hooks"
	pinMaps      = "maps-"
	pinLink      = "-link"
	pinSlot      = "-slot"
	// pinStateSize bounds what the state says, as JSON.
	pinStateSize = 512
	// pinPathSize bounds the path of a sandbox's directory; pinSandboxesMax how many are remembered.
	pinPathSize     = 1024
	pinSandboxesMax = 16384
	// pinLossesMax bounds the accounts of losses that are remembered; what has no room may be told again.
	pinLossesMax = 65536
)

// How often, and after what pause, a set that another holds is asked for again.
const (
	lockAttempts = 10
	lockPause    = 50 * time.Millisecond
)

// pins is a set of pins that this process holds.
type pins struct {
	cfg  *Pins
	lock *os.File
	// state is where was says who holds the set; sandboxes is the directory of each watched sandbox by its id.
	// losses is how many of each sandbox's and kind's losses were told.
	// syscalls is how much of each sandbox's counts of system calls was told.
	state, sandboxes, losses, syscalls *ebpf.Map
	was, now                           PinSet
	how                                event.Pinning
	// used is the names below hooks that this tracer attached or took over.
	used map[string]bool
	// cache is what was read of the kernel's types, while programs are attached; nil then.
	cache *btf.Cache
}

// openPins takes a set of pins, made anew where there is none. The error is a *PinsHeldError when another has it.
func openPins(cfg *Pins) (*pins, error) {
	if err := makePinDirectory(cfg); err != nil {
		return nil, err
	}
	p := &pins{cfg: cfg, used: map[string]bool{}, how: event.PinningStarted}
	if err := p.open(); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *pins) open() error {
	lock, held, err := lockPins(p.cfg.Dir)
	for range lockAttempts { // one that was killed may not be gone yet
		if err != nil || !held {
			break
		}
		time.Sleep(lockPause)
		lock, held, err = lockPins(p.cfg.Dir)
	}
	if err != nil {
		return err
	}
	if held {
		set, err := readPinState(p.cfg.Dir)
		if err != nil {
			set = PinSet{Dir: p.cfg.Dir}
		}
		return &PinsHeldError{set}
	}
	p.lock = lock
	p.state, err = p.own(pinState, &ebpf.MapSpec{
		Name: "pin_state", Type: ebpf.Array, KeySize: 4, ValueSize: pinStateSize, MaxEntries: 1,
	})
	if err != nil {
		return err
	}
	p.sandboxes, err = p.own(pinSandboxes, &ebpf.MapSpec{
		Name: "pin_sandboxes", Type: ebpf.Hash, KeySize: 8, ValueSize: pinPathSize, MaxEntries: pinSandboxesMax,
		Flags: unix.BPF_F_NO_PREALLOC,
	})
	if err != nil {
		return err
	}
	p.losses, err = p.own(pinLosses, &ebpf.MapSpec{
		Name: "pin_losses", Type: ebpf.Hash, KeySize: 16, ValueSize: 16, MaxEntries: pinLossesMax, Flags: unix.BPF_F_NO_PREALLOC,
	})
	if err != nil {
		return err
	}
	if err := p.openSyscallsTold(); err != nil {
		return err
	}
	// A state that cannot be read is that of no set: what is there is then replaced.
	p.was, _ = parsePinState(p.cfg.Dir, p.state)
	if err := os.MkdirAll(filepath.Join(p.cfg.Dir, pinHooks), 0o700); err != nil {
		return fmt.Errorf("making the directory of hooks: %w", err)
	}
	return nil
}

// own is one of user space's own maps, made when there is none of that form.
func (p *pins) own(name string, spec *ebpf.MapSpec) (*ebpf.Map, error) {
	path := filepath.Join(p.cfg.Dir, name)
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err == nil && spec.Compatible(m) == nil {
		return m, nil
	}
	if err == nil {
		_ = m.Close()
		_ = os.Remove(path)
	}
	if m, err = ebpf.NewMap(spec); err != nil {
		return nil, fmt.Errorf("making map %s: %w", name, err)
	}
	if err := m.Pin(path); err != nil {
		return nil, errors.Join(fmt.Errorf("pinning map %s: %w", name, err), m.Close())
	}
	return m, nil
}

// begin says which layout is in force from now on.
func (p *pins) begin(l *layout, ring uint64) error {
	p.now = PinSet{
		Dir: p.cfg.Dir, Held: true, PID: os.Getpid(), Version: p.cfg.Version, Since: time.Now().Round(time.Second),
		Layout: l.maps, Records: l.records, Programs: l.programs, Ring: ring,
	}
	switch {
	case p.was.Layout == "" || p.was.Ring == 0:
	case p.was.Layout != l.maps || p.was.Records != l.records:
		p.how = event.PinningReplaced
	case p.was.Programs != l.programs:
		p.how, p.now.Ring = event.PinningUpdated, p.was.Ring
	default:
		p.how, p.now.Ring = event.PinningAdopted, p.was.Ring
	}
	return p.made(p.mapsDir(l.maps))
}

func (p *pins) made(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of maps: %w", err)
	}
	return nil
}

// commit puts down who holds the set, once it is as this tracer wants it.
func (p *pins) commit() error {
	text, err := json.Marshal(p.now)
	if err == nil && len(text) > pinStateSize {
		err = fmt.Errorf("%d bytes are more than %d", len(text), pinStateSize)
	}
	if err != nil {
		return fmt.Errorf("saying who holds the pins: %w", err)
	}
	if err := p.state.Put(uint32(0), append(text, make([]byte, pinStateSize-len(text))...)); err != nil {
		return fmt.Errorf("saying who holds the pins: %w", err)
	}
	return nil
}

func (p *pins) mapsDir(layout string) string { return filepath.Join(p.cfg.Dir, pinMaps+layout) }

// continues says whether the maps are those of the tracer before.
func (p *pins) continues() bool {
	return p.how == event.PinningAdopted || p.how == event.PinningUpdated
}

// pinned says whether a map outlives the process: not the constants, nor tables that the loader fills, nor what
// programs use for a moment on one CPU. But what is counted there stays, and what one program leaves there for another probe's does: while hooks are
// taken over one by one, an old one leaves it for a new one, which would see nothing in a map of its own.
func pinnedMap(spec *ebpf.MapSpec) bool {
	if spec.Type == ebpf.PerCPUArray {
		return slices.Contains(sharedMaps(), spec.Name) || slices.Contains(frontMaps(), spec.Name)
	}
	return !strings.HasPrefix(spec.Name, ".") && len(spec.Contents) == 0
}

// mapPath is where a probe's map is pinned.
func (p *pins) mapPath(probe, name string) string {
	if !slices.Contains(sharedMaps(), name) {
		name = probe + "-" + name
	}
	return filepath.Join(p.mapsDir(p.now.Layout), name)
}

// replace puts the maps of the tracer before in the place of those that a probe would make.
func (p *pins) replace(probe string, spec *ebpf.CollectionSpec, replacements map[string]*ebpf.Map) (opened []*ebpf.Map, err error) {
	for name, m := range spec.Maps {
		if !pinnedMap(m) || replacements[name] != nil {
			continue
		}
		old, err := ebpf.LoadPinnedMap(p.mapPath(probe, name), nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return opened, fmt.Errorf("taking over map %s: %w", name, err)
		}
		opened = append(opened, old)
		replacements[name] = old
	}
	return opened, nil
}

// keep pins the maps of a probe that are not yet.
func (p *pins) keep(probe string, spec *ebpf.CollectionSpec, made map[string]*ebpf.Map) error {
	for name, m := range spec.Maps {
		path := p.mapPath(probe, name)
		if _, err := os.Stat(path); err == nil || !pinnedMap(m) {
			continue
		}
		if err := made[name].Pin(path); err != nil {
			return fmt.Errorf("pinning map %s: %w", name, err)
		}
	}
	return nil
}

// hook is a place that a program is attached to, and how.
type hook struct {
	kind   ebpf.ProgramType
	attach ebpf.AttachType
	to     string
}

// slotted says whether a link to the hook cannot be given another program.
func (h *hook) slotted() bool {
	return h.kind == ebpf.Tracing || h.kind == ebpf.LSM || h.kind == ebpf.Kprobe
}

// attachKept attaches a program of a probe by attach, in the place of that of the tracer before where there are pins: p is nil
// where there are none.
func (p *pins) attachKept(probe string, at placed, attach func(*ebpf.Program) (link.Link, error)) (link.Link, error) {
	if p == nil {
		return attach(at.program)
	}
	return p.attachPinned(probe+"-"+at.name, at.hook, at.program, attach)
}

// attachPinned puts a program in the place of the one of the tracer before, so that everything is seen by exactly one of
// them, or attaches it where there was none. link attaches a program to the hook.
//
// Links to cgroups can be given another program. Links to tracepoints and functions cannot, so what is attached
// there is a program of three instructions which goes on with the one in a slot, by a jump that the kernel
// patches. It costs an event about a nanosecond. Where such a link is to many functions, name says to which.
func (p *pins) attachPinned(name string, h hook, program *ebpf.Program, attach func(*ebpf.Program) (link.Link, error)) (link.Link, error) {
	file := filepath.Join(p.cfg.Dir, pinHooks, name)
	old, err := link.LoadPinnedLink(file+pinLink, nil)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("taking over the hook: %w", err)
	}
	if !h.slotted() {
		p.used[name+pinLink] = true
		if old != nil {
			if err = old.Update(program); err == nil {
				return old, nil
			}
		}
		return p.attachAnew(file, program, old, attach)
	}
	p.used[name+pinLink], p.used[name+pinSlot] = true, true
	if old != nil {
		if fillSlot(file+pinSlot, program) == nil {
			return old, nil
		}
	}
	slot, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "pin_slot", Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("making a slot: %w", err)
	}
	defer slot.Close() //nolint:errcheck // pinned, or of no use
	if err := slot.Put(uint32(0), program); err != nil {
		return nil, fmt.Errorf("filling a slot: %w", err)
	}
	first, err := p.loadFirst(h, slot)
	if err != nil {
		return nil, fmt.Errorf("loading the program before the slot: %w", err)
	}
	defer first.Close() //nolint:errcheck // the link holds it
	l, err := p.attachAnew(file, first, old, attach)
	if err != nil {
		return nil, err
	}
	_ = os.Remove(file + pinSlot)
	if err := slot.Pin(file + pinSlot); err != nil {
		return nil, errors.Join(fmt.Errorf("pinning a slot: %w", err), l.Close())
	}
	return l, nil
}

// loadFirst loads the program that is on the hook and goes on with the one in the slot. As a collection, since only that
// takes the kernel's types as they were read before: reading them again takes most of the time.
func (p *pins) loadFirst(h hook, slot *ebpf.Map) (*ebpf.Program, error) {
	const name = "pin_slot"
	collection, err := ebpf.NewCollectionWithOptions(&ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{name: {
		Name: name, Type: h.kind, AttachType: h.attach, AttachTo: h.to, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.LoadMapPtr(asm.R2, slot.FD()), asm.Mov.Imm(asm.R3, 0), asm.FnTailCall.Call(),
			asm.Mov.Imm(asm.R0, 0), asm.Return(),
		},
	}}}, ebpf.CollectionOptions{Cache: p.cache})
	if err != nil {
		return nil, err
	}
	defer collection.Close()
	return collection.DetachProgram(name), nil
}

// attachAnew attaches a program and pins the link, in the place of one that cannot be given the program. The old one
// goes after the new one is there.
func (p *pins) attachAnew(file string, program *ebpf.Program, old link.Link, attach func(*ebpf.Program) (link.Link, error)) (link.Link, error) {
	l, err := attach(program)
	if err != nil {
		if old != nil {
			err = errors.Join(err, old.Close())
		}
		return nil, err
	}
	if old != nil {
		_ = os.Remove(file + pinLink)
		_ = old.Close()
	}
	if err := l.Pin(file + pinLink); err != nil {
		return nil, errors.Join(fmt.Errorf("pinning a link: %w", err), l.Close())
	}
	return l, nil
}

// fillSlot puts a program into a slot that is pinned.
func fillSlot(path string, program *ebpf.Program) error {
	slot, err := ebpf.LoadPinnedMap(path, nil)
	if err != nil {
		return fmt.Errorf("opening a slot: %w", err)
	}
	defer slot.Close() //nolint:errcheck // nothing was written that waits
	if err := slot.Put(uint32(0), program); err != nil {
		return fmt.Errorf("filling a slot: %w", err)
	}
	return nil
}

// drop takes the link of a hook out of the set: it ends with its last descriptor.
func (p *pins) drop(name string) {
	_ = os.Remove(filepath.Join(p.cfg.Dir, pinHooks, name+pinLink)) // there may be none
	delete(p.used, name+pinLink)
}

// prune detaches the hooks that this tracer has no program for, and removes maps of other layouts. The hooks of
// a probe for which keep says so stay: an old program is better than none.
func (p *pins) prune(keep func(probe string) bool) error {
	hooks, err := hookNames(p.cfg.Dir)
	if err != nil {
		return err
	}
	var errs []error
	var gone []string
	for _, h := range hooks {
		probe, _, _ := strings.Cut(h, "-")
		if !p.used[h] && !keep(probe) {
			errs = append(errs, os.Remove(filepath.Join(p.cfg.Dir, pinHooks, h)))
			gone = append(gone, h)
		}
	}
	errs = append(errs, removeReturnSets(returnSetsIn(gone)))
	entries, err := os.ReadDir(p.cfg.Dir)
	if err != nil {
		return fmt.Errorf("listing the pins: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), pinMaps) && e.Name() != pinMaps+p.now.Layout {
			errs = append(errs, os.RemoveAll(filepath.Join(p.cfg.Dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// remember and forget say which sandboxes are watched, for the next tracer.
func (p *pins) remember(id uint64, dir string) error {
	if len(dir) > pinPathSize {
		return fmt.Errorf("the path %q is too long to be remembered", dir)
	}
	if err := p.sandboxes.Put(id, append([]byte(dir), make([]byte, pinPathSize-len(dir))...)); err != nil {
		return fmt.Errorf("remembering cgroup %d: %w", id, err)
	}
	return nil
}

func (p *pins) forget(id uint64) error {
	if err := p.forgetSyscallsTold(id); err != nil {
		return fmt.Errorf("forgetting the system calls of cgroup %d: %w", id, err)
	}
	if err := p.sandboxes.Delete(id); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forgetting cgroup %d: %w", id, err)
	}
	return nil
}

// remembered is the sandboxes that the tracer before watched.
func (p *pins) remembered() (map[uint64]string, error) {
	known := map[uint64]string{}
	var id uint64
	var dir []byte
	entries := p.sandboxes.Iterate()
	for entries.Next(&id, &dir) {
		known[id] = text(dir)
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("listing the sandboxes of the tracer before: %w", err)
	}
	return known, nil
}

// close lets go of the set, which stays as it is.
func (p *pins) close() error {
	var errs []error
	for _, m := range []*ebpf.Map{p.state, p.sandboxes, p.losses, p.syscalls} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	if p.lock != nil {
		// Not only closed: a child between fork and exec has it too.
		errs = append(errs, unix.Flock(int(p.lock.Fd()), unix.LOCK_UN), p.lock.Close())
	}
	p.state, p.sandboxes, p.losses, p.syscalls, p.lock = nil, nil, nil, nil, nil
	return errors.Join(errs...)
}

// Unpin removes a set of pins that nobody reads: its programs are detached and its maps gone with what they hold.
func Unpin(dir string) error {
	lock, held, err := lockPins(dir)
	if err != nil {
		return err
	}
	if held {
		set, err := readPinState(dir)
		if err != nil {
			set = PinSet{Dir: dir}
		}
		return &PinsHeldError{set}
	}
	defer lock.Close() //nolint:errcheck // the directory is gone
	return removePins(dir)
}

// removePins removes a set: first what attaches programs.
func removePins(dir string) error {
	hooks, err := hookNames(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range []string{pinHooks, ""} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("removing the pins: %w", err)
		}
	}
	return removeReturnSets(returnSetsIn(hooks))
}

// PinSets is the sets of pins below a directory, in the order of their names.
func PinSets(root string) ([]PinSet, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing pins: %w", err)
	}
	var sets []PinSet
	for _, e := range entries {
		dir := filepath.Join(root, e.Name())
		set, err := readPinState(dir)
		if err != nil {
			continue // somebody else's
		}
		lock, held, err := lockPins(dir)
		if err != nil {
			continue
		}
		if lock != nil {
			_ = lock.Close()
		}
		set.Held = held
		sets = append(sets, set)
	}
	return sets, nil
}

func readPinState(dir string) (PinSet, error) {
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, pinState), nil)
	if err != nil {
		return PinSet{}, fmt.Errorf("reading who holds the pins in %s: %w", dir, err)
	}
	defer m.Close() //nolint:errcheck // only read
	return parsePinState(dir, m)
}

func parsePinState(dir string, m *ebpf.Map) (PinSet, error) {
	set := PinSet{}
	value, err := m.LookupBytes(uint32(0))
	if err == nil {
		err = json.Unmarshal(bytes.TrimRight(value, "\x00"), &set)
	}
	if err != nil {
		return PinSet{}, fmt.Errorf("reading who holds the pins in %s: %w", dir, err)
	}
	set.Dir = dir
	return set, nil
}

// lockPins takes the lock of a set, which the kernel gives back when its holder ends, however it does.
func lockPins(dir string) (lock *os.File, held bool, err error) {
	lock, err = os.Open(dir)
	if err != nil {
		return nil, false, fmt.Errorf("opening the pins: %w", err)
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return lock, false, nil
	}
	_ = lock.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, true, nil
	}
	return nil, false, fmt.Errorf("locking the pins: %w", err)
}

// bpffs is where a BPF file system usually is.
const bpffs = "/sys/fs/bpf"

// makePinDirectory makes the directory of a set, and mounts what it lies in where that is missing and wanted.
func makePinDirectory(cfg *Pins) error {
	inside, err := inBPFFS(cfg.Dir)
	if err != nil {
		return err
	}
	if !inside && cfg.Mount && strings.HasPrefix(cfg.Dir, bpffs+"/") {
		if err := unix.Mount("bpf", bpffs, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
			return fmt.Errorf("mounting a bpffs at %s: %w", bpffs, err)
		}
		if inside, err = inBPFFS(cfg.Dir); err != nil {
			return err
		}
	}
	if !inside {
		return fmt.Errorf("%s is in no bpffs: %w", cfg.Dir, errNoBPFFS)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of pins: %w", err)
	}
	if err := os.Chmod(cfg.Dir, 0o700); err != nil { // it may have been there
		return fmt.Errorf("closing the directory of pins to others: %w", err)
	}
	return nil
}

// CheckPins says why a set of pins would not work. Nothing is made or mounted for it.
func CheckPins(cfg *Pins) error {
	inside, err := inBPFFS(cfg.Dir)
	if err != nil || inside || cfg.Mount && strings.HasPrefix(cfg.Dir, bpffs+"/") {
		return err
	}
	return fmt.Errorf("%s is in no bpffs: %w", cfg.Dir, errNoBPFFS)
}

// errNoBPFFS says that pins have no place.
var errNoBPFFS = errors.New("no BPF file system")

// inBPFFS says whether a path, or what of it exists, lies in a BPF file system.
func inBPFFS(path string) (bool, error) {
	for ; ; path = filepath.Dir(path) {
		var stat unix.Statfs_t
		err := unix.Statfs(path, &stat)
		if err == nil {
			return uint64(stat.Type) == unix.BPF_FS_MAGIC, nil
		}
		if !errors.Is(err, unix.ENOENT) || path == "/" || path == "." {
			return false, fmt.Errorf("looking at %s: %w", path, err)
		}
	}
}
