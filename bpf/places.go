// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

const (
	// placesMax is at how many cgroups packet programs hang: each costs two descriptors and a list of the kernel's for
	// every cgroup below. Packets of sandboxes beyond are seen at the root cgroup.
	placesMax = 512
	// placeLevels is how deep such a cgroup may be (PLACE_LEVELS).
	placeLevels = 32
	// placesLinger is how long programs still hang at the root cgroup when nobody needs them there any more: what a
	// connection had to send when it was closed, and whoever is gone and soon comes again.
	placesLinger = 10 * time.Second
	// placesRetry is after what time what has failed there is tried again.
	placesRetry = time.Second
	// restSuffix is the end of the names of the programs that are for the root cgroup.
	restSuffix = "_rest"
)

// places is the cgroups where the packet programs hang. At the root cgroup alone, each packet of the node would run them.
//
// Programs at a cgroup see the packets of all sockets that were made in it or below. A packet runs the programs of every
// cgroup around its socket: so there is no place below a place, and what hangs at the root cgroup passes over packets that
// are seen at a place. A sandbox around one that has a place has none itself, since its programs would see that one's
// packets once more. Where a sandbox has no place, and while there are sockets or processes that speak for a sandbox but
// are in none of its cgroups, programs hang at the root cgroup too.
type places struct {
	log   *slog.Logger
	mount string
	probe *loadedProbe
	// pins is nil where nothing outlives this process.
	pins *pins
	// known is the kernel's map of the places; outside counts the sockets from outside, strayCount the processes in strays.
	known, outside, strays, strayCount *ebpf.Map

	// max is placesMax, linger placesLinger.
	max    int
	linger time.Duration

	mu sync.Mutex
	// at is the places by their cgroup's id.
	at map[uint64]*place
	// of is the place of each sandbox, noPlace where it has none.
	of map[uint64]uint64
	// unplaced is how many have none, why the reason of the last of them.
	unplaced int
	why      error
	// looked is when the strays were last looked through, when strayed were counted; any is whether one was found.
	looked  time.Time
	strayed uint64
	any     bool
	// root is what hangs at the root cgroup, needed when it was last needed, tried when attaching it failed last.
	root          []link.Link
	needed, tried time.Time
	// err is why nothing hangs at the root cgroup though it should.
	err error
}

// noPlace is the place of a sandbox whose packets are seen at the root cgroup.
const noPlace = 0

// place is one cgroup where programs hang.
type place struct {
	dir   string
	links []link.Link
	// sandboxes is how many are at the place or below.
	sandboxes int
}

// Reasons why a sandbox has no place, beside what the kernel says.
var (
	errPlacesFull   = errors.New("more sandboxes than programs hang at one by one")
	errPlaceAround  = errors.New("it is around a sandbox that was watched before")
	errPlaceDeep    = errors.New("its cgroup is too deep")
	errPlaceAtRoot  = errors.New("it is the root cgroup")
	errNoRestOfThem = errors.New("there is no program for the root cgroup")
)

// openPlaces has the packet programs of a probe hang where the sandboxes are that are watched already, where those of the
// tracer before do, and takes them off where they are not needed any more.
func (t *Tracer) openPlaces(p *loadedProbe) error {
	known := p.collection.Maps["packet_places"]
	if known == nil {
		return nil
	}
	s := &places{
		log: t.log, mount: t.mount, probe: p, pins: t.pins, known: known,
		outside: t.shared["outside_sockets"], strays: t.shared["strays"], strayCount: t.shared["stray_counts"],
		max: placesMax, linger: placesLinger, at: map[uint64]*place{}, of: map[uint64]uint64{},
	}
	t.places = s
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.takeOver(t.tracked); err != nil {
		return err
	}
	// Those around others first: then these need no place.
	for _, id := range slices.SortedFunc(maps.Keys(t.tracked), func(a, b uint64) int {
		return cmp.Compare(len(t.tracked[a]), len(t.tracked[b]))
	}) {
		s.addLocked(id, t.tracked[id])
	}
	for id, p := range s.at {
		if p.sandboxes == 0 {
			s.leave(id)
		}
	}
	s.tendLocked(time.Now())
	return nil
}

// takeOver has this tracer's programs in the place of those of the one before. The kernel's map of places is true before
// anything at the root cgroup looks there.
func (s *places) takeOver(remembered map[uint64]string) error {
	pinned, atRoot, err := s.pinnedPlaces(remembered)
	if err != nil {
		return err
	}
	var id uint64
	var seen uint8
	var gone []uint64
	for entries := s.known.Iterate(); entries.Next(&id, &seen); {
		if _, ok := pinned[id]; !ok {
			gone = append(gone, id)
		}
	}
	for _, id := range gone {
		_ = s.known.Delete(id)
	}
	for id := range pinned {
		if err := s.known.Put(id, uint8(1)); err != nil {
			return fmt.Errorf("taking over the place at cgroup %d: %w", id, err)
		}
	}
	if atRoot {
		s.hangAtRoot(time.Now())
	}
	for id, dir := range pinned {
		links, err := s.hang(id, dir)
		if err != nil {
			_ = s.known.Delete(id)
			s.log.Warn("packet programs do not hang on at a cgroup", "cgroup", dir, "error", err)
			continue
		}
		s.at[id] = &place{dir: dir, links: links}
	}
	return nil
}

// pinnedPlaces is the cgroups where programs of the tracer before hang, and whether some do at the root cgroup. Those at
// cgroups that are gone are taken off.
func (s *places) pinnedPlaces(remembered map[uint64]string) (at map[uint64]string, atRoot bool, err error) {
	at = map[uint64]string{}
	if s.pins == nil {
		return at, false, nil
	}
	hooks, err := hookNames(s.pins.cfg.Dir)
	if err != nil {
		return nil, false, err
	}
	for _, h := range hooks {
		program, found := strings.CutPrefix(strings.TrimSuffix(h, pinLink), s.probe.name+"-")
		program, place, placed := strings.Cut(program, "@")
		if !found || !s.hangs(program) {
			continue
		}
		if !placed {
			atRoot = true
			continue
		}
		id, err := strconv.ParseUint(place, 10, 64)
		if err != nil {
			continue // no name of this tracer's; it is removed as one that is not used
		}
		dir := remembered[id]
		if !isCgroup(dir, id) {
			// Not by search: a node's restart may leave hundreds. Who is below one that cannot be found gets a place.
			dir, err = cgroupDirByHandle(s.mount, id)
		}
		if err != nil {
			s.log.Debug("packet programs hang at a cgroup that is gone", "cgroup_id", id, "error", err)
			_ = os.Remove(filepath.Join(s.pins.cfg.Dir, pinHooks, h))
			continue
		}
		at[id] = dir
	}
	return at, atRoot, nil
}

// hangs says whether a program, or that of the same name for the root cgroup, is one that sees packets.
func (s *places) hangs(program string) bool {
	return s.probe.hooks[program].kind == ebpf.CGroupSKB || s.probe.hooks[program+restSuffix].kind == ebpf.CGroupSKB
}

// add has programs hang where they see a sandbox's packets, before it is watched.
func (s *places) add(sandbox uint64, dir string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addLocked(sandbox, dir)
}

func (s *places) addLocked(sandbox uint64, dir string) {
	if !isCgroup(dir, sandbox) {
		return // it is gone, and with it whoever could send
	}
	id, err := s.placeFor(sandbox, dir)
	if err != nil {
		if s.unplaced++; s.unplaced == 1 {
			s.log.Warn("packets of a sandbox are seen at the root cgroup: every packet of the node runs a program", "cgroup", dir, "reason", err)
		}
		s.why = err
		s.of[sandbox] = noPlace
		s.tendLocked(time.Now())
		return
	}
	s.of[sandbox] = id
	s.at[id].sandboxes++
}

// placeFor is the place of a sandbox: one that there is, or a new one.
func (s *places) placeFor(sandbox uint64, dir string) (uint64, error) {
	if dir == s.mount {
		return noPlace, errPlaceAtRoot
	}
	levels := 0
	for around := dir; len(around) > len(s.mount); around = filepath.Dir(around) {
		var stat unix.Stat_t
		if err := unix.Stat(around, &stat); err != nil {
			return noPlace, fmt.Errorf("looking at the cgroups around: %w", err)
		}
		if s.at[stat.Ino] != nil {
			return stat.Ino, nil
		}
		levels++
	}
	if levels >= placeLevels {
		return noPlace, errPlaceDeep
	}
	for id, p := range s.at {
		if strings.HasPrefix(p.dir, dir+"/") && isCgroup(p.dir, id) {
			return noPlace, errPlaceAround
		}
	}
	if len(s.at) >= s.max {
		return noPlace, errPlacesFull
	}
	links, err := s.hang(sandbox, dir)
	if err != nil {
		return noPlace, err
	}
	if err := s.known.Put(sandbox, uint8(1)); err != nil {
		return noPlace, errors.Join(fmt.Errorf("entering the place: %w", err), s.takeDown(links, false, placeName(sandbox)))
	}
	s.at[sandbox] = &place{dir: dir, links: links}
	return sandbox, nil
}

// isCgroup says whether a cgroup is at a directory still.
func isCgroup(dir string, id uint64) bool {
	var stat unix.Stat_t
	return unix.Stat(dir, &stat) == nil && stat.Ino == id
}

// remove is to be called when a sandbox is no longer watched.
func (s *places) remove(sandbox uint64) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.of[sandbox]
	if !ok {
		return
	}
	delete(s.of, sandbox)
	if id == noPlace {
		s.unplaced-- // when it was the last, tend takes what is at the root cgroup down
		return
	}
	// A place stays as long as any sandbox below needs it.
	if s.at[id].sandboxes--; s.at[id].sandboxes == 0 {
		s.leave(id)
	}
}

// leave takes the programs of a place down.
func (s *places) leave(id uint64) {
	_ = s.known.Delete(id)
	if err := s.takeDown(s.at[id].links, false, placeName(id)); err != nil {
		s.log.Warn("packet programs cannot be taken off a cgroup", "cgroup", s.at[id].dir, "error", err)
	}
	delete(s.at, id)
}

// hang attaches the programs for places to a cgroup: all or none.
func (s *places) hang(id uint64, dir string) ([]link.Link, error) {
	// By a descriptor: another cgroup may be at that path by now.
	cgroup, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the cgroup: %w", err)
	}
	defer cgroup.Close() //nolint:errcheck // only read
	path := fmt.Sprintf("/proc/self/fd/%d", cgroup.Fd())
	if !isCgroup(path, id) {
		return nil, fmt.Errorf("cgroup %d is not at %q: %w", id, dir, fs.ErrNotExist)
	}
	links, err := s.hangAll(path, false, placeName(id))
	if err != nil {
		return nil, errors.Join(err, s.takeDown(links, false, placeName(id)))
	}
	return links, nil
}

// placeName is the name of a program's link to a cgroup, rootName that of one to the root cgroup: as it was called when
// programs hung there alone.
func placeName(id uint64) func(program string) string {
	return func(program string) string { return program + "@" + strconv.FormatUint(id, 10) }
}

func rootName(program string) string { return strings.TrimSuffix(program, restSuffix) }

// hangAll attaches the programs for places, or those for the root cgroup. What it could attach it returns in any case.
func (s *places) hangAll(path string, rest bool, name func(program string) string) (links []link.Link, err error) {
	for _, program := range s.programs(rest) {
		at := placed{name: name(program), hook: s.probe.hooks[program], program: s.probe.collection.Programs[program]}
		l, err := s.pins.attachKept(s.probe.name, at, func(p *ebpf.Program) (link.Link, error) {
			return link.AttachCgroup(link.CgroupOptions{Path: path, Attach: at.hook.attach, Program: p})
		})
		if err != nil {
			return links, fmt.Errorf("program %s: %w", program, err)
		}
		links = append(links, l)
	}
	return links, nil
}

// programs is the names of the programs for places, or of those for the root cgroup.
func (s *places) programs(rest bool) (names []string) {
	for name := range s.probe.collection.Programs {
		if s.probe.hooks[name].kind == ebpf.CGroupSKB && strings.HasSuffix(name, restSuffix) == rest {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// takeDown detaches what hangAll has attached, by the same names.
func (s *places) takeDown(links []link.Link, rest bool, name func(program string) string) error {
	if s.pins != nil {
		for _, program := range s.programs(rest) {
			s.pins.drop(s.probe.name + "-" + name(program))
		}
	}
	return closeAll(links)
}

// hangAtRoot attaches the programs for the root cgroup.
func (s *places) hangAtRoot(now time.Time) {
	if len(s.programs(true)) == 0 {
		s.err = errNoRestOfThem
		return
	}
	links, err := s.hangAll(s.mount, true, rootName)
	if err != nil {
		s.tried = now
		if s.err == nil {
			s.log.Warn("packet programs cannot hang at the root cgroup", "error", err)
		}
		s.err = errors.Join(err, s.takeDown(links, true, rootName))
		return
	}
	s.root, s.needed, s.err = links, now, nil
	s.log.Info("packet programs hang at the root cgroup: every packet of the node runs them",
		"sandboxes_without_place", s.unplaced, "sockets_from_outside", counted(s.outside), "strays", counted(s.strayCount))
}

// tend has programs hang at the root cgroup while somebody is to be seen there. It is called every few milliseconds, and
// at once when the kernel side says that there is somebody.
func (s *places) tend(now time.Time) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tendLocked(now)
}

func (s *places) tendLocked(now time.Time) {
	needed := s.unplaced > 0 || counted(s.outside) > 0 || s.anyStray(now)
	switch {
	case needed && s.root == nil:
		if now.Sub(s.tried) >= placesRetry {
			s.hangAtRoot(now)
		}
	case needed:
		s.needed = now
	case s.root == nil:
		s.err = nil // it is not needed any more
	case now.Sub(s.needed) >= s.linger:
		if err := s.takeDown(s.root, true, rootName); err != nil {
			s.log.Warn("packet programs cannot be taken off the root cgroup", "error", err)
		}
		s.root = nil
		s.log.Info("packet programs hang at the root cgroup no more")
	}
}

// How long what was found of the strays is relied on, while their number is the same.
const (
	strayThere = time.Second
	strayNone  = 100 * time.Millisecond
)

// anyStray says whether there is a stray of a sandbox that is watched: others live on after theirs.
func (s *places) anyStray(now time.Time) bool {
	n := counted(s.strayCount)
	if n == 0 || s.strays == nil {
		s.strayed, s.any = 0, false
		return false
	}
	reliable := strayNone
	if s.any {
		reliable = strayThere
	}
	if n == s.strayed && now.Sub(s.looked) < reliable {
		return s.any
	}
	s.strayed, s.looked, s.any = n, now, false
	var pid uint32
	var stray processStray
	entries := s.strays.Iterate()
	for entries.Next(&pid, &stray) {
		if _, watched := s.of[stray.Sandbox]; watched {
			s.any = true
			return true
		}
	}
	s.any = entries.Err() != nil // the table changed too quickly to be looked through
	return s.any
}

// counted is the only value of a counter of the kernel's.
func counted(m *ebpf.Map) (n uint64) {
	if m != nil {
		_ = m.Lookup(uint32(0), &n) // its only entry is always there
	}
	return n
}

// try says whether the programs can be attached, by attaching them to the root cgroup for a moment.
func (s *places) try() error {
	if s == nil {
		return nil
	}
	var errs []error
	for _, rest := range []bool{false, true} {
		links, err := s.hangAll(s.mount, rest, rootName)
		errs = append(errs, err, closeAll(links))
	}
	return errors.Join(errs...)
}

// tell tells how the places of the probe are: why packets of sandboxes are not seen, or are seen at every process's cost.
func (s *places) tell(p *loadedProbe, stats *event.ProbeStats) {
	if s == nil || p != s.probe || !p.attached {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	stats.AtRoot = s.root != nil
	switch {
	case s.err != nil:
		stats.Attached, stats.Err = false, "packets that are to be seen at the root cgroup are not: "+s.err.Error()
	case s.unplaced > 0:
		stats.Fallback = fmt.Sprintf("packets of %d sandboxes are seen at the root cgroup, where every packet of the node runs a program: %v", s.unplaced, s.why)
	}
}

// close lets go of everything. What is pinned hangs on.
func (s *places) close() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := []error{closeAll(s.root)}
	for _, p := range s.at {
		errs = append(errs, closeAll(p.links))
	}
	s.root, s.at = nil, map[uint64]*place{}
	return errors.Join(errs...)
}
