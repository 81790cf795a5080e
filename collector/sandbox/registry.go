// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchglass/watchglass/event"
)

// What made a sandbox.
const (
	// RuntimeRun is `watchglass run`.
	RuntimeRun = "watchglass"
	// RuntimeCgroup is anything else: all that is known is the cgroup.
	RuntimeCgroup = "cgroup"
)

// maxScan bounds how many cgroups one look at the hierarchy visits.
const maxScan = 1 << 17

// Kernel is what the registry asks of the tracer; see bpf.Tracer.
type Kernel interface {
	Track(cgroupID uint64) error
	Untrack(cgroupID uint64) error
	Bootstrap(cgroupID uint64) error
}

// Config is what a registry needs. All but Selectors must be set.
type Config struct {
	Mount Mount
	// BootID makes the ids of sandboxes differ between boots.
	BootID string
	// Max is how many sandboxes are watched at once; what comes after is refused and counted.
	Max       int
	Selectors Selectors
	Kernel    Kernel
	Logger    *slog.Logger
}

// Validate says what is missing.
func (c *Config) Validate() error {
	switch {
	case c.Mount.Dir == "":
		return errors.New("sandbox registry: no cgroup2 mount")
	case c.BootID == "":
		return errors.New("sandbox registry: no boot id")
	case c.Max < 1:
		return fmt.Errorf("sandbox registry: room for %d sandboxes", c.Max)
	case c.Kernel == nil || c.Logger == nil:
		return errors.New("sandbox registry: no kernel or no logger")
	}
	return nil
}

// ErrFull says that a sandbox is not watched because the most are.
var ErrFull = errors.New("as many sandboxes are watched as may be")

// Registry is the sandboxes being watched. Its methods may be called from any goroutine; Lookup
// waits for nobody.
type Registry struct {
	cfg     Config
	refused atomic.Uint64
	watched atomic.Pointer[map[uint64]*event.Sandbox] // replaced as a whole under mu

	mu        sync.Mutex
	selectors Selectors
	full      bool // said so in the log, since the last time there was room
}

// New makes an empty registry; Scan fills it.
func New(cfg Config) (*Registry, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Registry{cfg: cfg, selectors: cfg.Selectors}
	r.watched.Store(&map[uint64]*event.Sandbox{})
	return r, nil
}

// BootID is the kernel's random id of this boot.
func BootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// Identity is the identity of the sandbox of a cgroup: 16 hexadecimal digits of a hash of boot id and cgroup id.
func Identity(bootID string, cgroupID uint64) string {
	sum := sha256.Sum256([]byte(bootID + "/" + strconv.FormatUint(cgroupID, 10)))
	return hex.EncodeToString(sum[:8])
}

// Lookup is the sandbox whose own cgroup has the id, nil when it is not watched.
func (r *Registry) Lookup(cgroupID uint64) *event.Sandbox { return (*r.watched.Load())[cgroupID] }

// Sandboxes is the sandboxes being watched, in the order of their cgroups.
func (r *Registry) Sandboxes() []*event.Sandbox {
	return slices.SortedFunc(maps.Values(*r.watched.Load()), func(a, b *event.Sandbox) int {
		return strings.Compare(a.Cgroup, b.Cgroup)
	})
}

// Len is how many sandboxes are watched, Refused how many were not for lack of room.
func (r *Registry) Len() int { return len(*r.watched.Load()) }

// Refused is how many sandboxes were not watched for lack of room.
func (r *Registry) Refused() uint64 { return r.refused.Load() }

// Add watches a cgroup that no selector chose, as the leaf of `watchglass run`.
func (r *Registry) Add(s event.Sandbox) (*event.Sandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.Name == "" {
		s.Name = path.Base(s.Cgroup)
	}
	s.ID = Identity(r.cfg.BootID, s.CgroupID)
	s.Started = time.Now()
	if err := r.watch(&s); err != nil {
		return nil, err
	}
	return &s, nil
}

// Made takes the news of a new cgroup: it is watched if it is one that a selector chooses. Of the
// cgroups below a sandbox the kernel took care. The result is the new sandbox, nil when it is none.
func (r *Registry) Made(cgroupID uint64, cgroup string) *event.Sandbox {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.made(cgroupID, cgroup)
}

// Adopt goes on to watch a cgroup that the kernel watches already, for a collector before this one. It may be gone:
// then Gone, or Sweep, tells so. Nil when no selector chooses it.
func (r *Registry) Adopt(cgroupID uint64, cgroup string) *event.Sandbox {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.choose(cgroupID, cgroup)
	if s != nil {
		r.bootstrap(s)
	}
	return s
}

// Sweep ends the sandboxes whose cgroups are gone. Records tell of that; only not of those that went while nobody
// read, or when the one who read was killed over it.
func (r *Registry) Sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.Sandboxes() {
		if s.Runtime == RuntimeCgroup && r.missing(s) {
			r.unwatch(s)
		}
	}
}

// missing says whether a sandbox's cgroup is gone, or another has its name.
func (r *Registry) missing(s *event.Sandbox) bool {
	dir, ok := r.cfg.Mount.dir(s.Cgroup)
	if !ok {
		return false
	}
	id, err := ID(dir)
	return errors.Is(err, fs.ErrNotExist) || err == nil && id != s.CgroupID
}

func (r *Registry) bootstrap(s *event.Sandbox) {
	if err := r.cfg.Kernel.Bootstrap(s.CgroupID); err != nil {
		r.cfg.Logger.Warn("processes that were alive before the sandbox was watched may be missing",
			"sandbox", s.ID, "cgroup", s.Cgroup, "error", err)
	}
}

func (r *Registry) made(cgroupID uint64, cgroup string) *event.Sandbox {
	s := r.choose(cgroupID, cgroup)
	if s == nil {
		return nil
	}
	// Removed before it was watched: the kernel told nobody, and would keep the entry for ever.
	if r.missing(s) {
		r.unwatch(s)
		return nil
	}
	r.bootstrap(s)
	return s
}

// choose begins to watch a cgroup that a selector chooses; nil when none does, or it is watched already.
func (r *Registry) choose(cgroupID uint64, cgroup string) *event.Sandbox {
	root, ok := r.selectors.Root(cgroup)
	if !ok || root != cgroup || r.Lookup(cgroupID) != nil {
		return nil
	}
	s := &event.Sandbox{
		ID: Identity(r.cfg.BootID, cgroupID), Name: path.Base(cgroup), Runtime: RuntimeCgroup,
		Cgroup: cgroup, CgroupID: cgroupID, Started: time.Now(),
	}
	if err := r.watch(s); err != nil {
		r.complain(s, err)
		return nil
	}
	return s
}

// complain logs that a sandbox is not watched; only the first of a row for lack of room.
func (r *Registry) complain(s *event.Sandbox, err error) {
	if errors.Is(err, ErrFull) {
		if r.full {
			return
		}
		r.full = true
	}
	r.cfg.Logger.Error("a sandbox is not watched", "cgroup", s.Cgroup, "error", err, "most", r.cfg.Max)
}

// Gone takes the news of a removed cgroup. The result is the sandbox that it was, nil when it was none.
func (r *Registry) Gone(cgroupID uint64) *event.Sandbox {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.Lookup(cgroupID)
	if s != nil {
		r.unwatch(s)
	}
	return s
}

// Scan looks at all cgroups there are and watches those that a selector chooses and that are not
// watched yet. The result is the new ones, in the order of the hierarchy.
func (r *Registry) Scan() ([]*event.Sandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.scan()
}

func (r *Registry) scan() (added []*event.Sandbox, err error) {
	seen := 0
	for dir := range cgroups(r.cfg.Mount.Dir) {
		if seen++; seen > maxScan {
			return added, fmt.Errorf("look for sandboxes: more than %d cgroups", maxScan)
		}
		cgroup, err := r.cfg.Mount.Path(dir)
		if err != nil {
			return added, err
		}
		if root, ok := r.selectors.Root(cgroup); !ok || root != cgroup {
			continue
		}
		id, err := ID(dir)
		if err != nil {
			continue // gone meanwhile
		}
		if s := r.made(id, cgroup); s != nil {
			added = append(added, s)
		}
	}
	return added, nil
}

// Select puts other selectors in force. Sandboxes that they do not choose are no longer watched,
// those that they choose are watched from now on.
func (r *Registry) Select(s Selectors) (added, removed []*event.Sandbox, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.selectors = s
	for _, sandbox := range r.Sandboxes() {
		if sandbox.Runtime != RuntimeCgroup {
			continue
		}
		if root, ok := s.Root(sandbox.Cgroup); !ok || root != sandbox.Cgroup {
			r.unwatch(sandbox)
			removed = append(removed, sandbox)
		}
	}
	added, err = r.scan()
	return added, removed, err
}

// watch makes the entry before the kernel knows of it, so that no record of the sandbox is a stranger's.
func (r *Registry) watch(s *event.Sandbox) error {
	if r.Len() >= r.cfg.Max {
		r.refused.Add(1)
		return ErrFull
	}
	watched := maps.Clone(*r.watched.Load())
	watched[s.CgroupID] = s
	r.watched.Store(&watched)
	if err := r.cfg.Kernel.Track(s.CgroupID); err != nil {
		r.remove(s)
		r.refused.Add(1)
		return fmt.Errorf("watch cgroup %s: %w", s.Cgroup, err)
	}
	return nil
}

func (r *Registry) unwatch(s *event.Sandbox) {
	if err := r.cfg.Kernel.Untrack(s.CgroupID); err != nil {
		r.cfg.Logger.Warn("the kernel may go on watching a sandbox", "sandbox", s.ID, "cgroup", s.Cgroup, "error", err)
	}
	r.remove(s)
	r.full = false
}

func (r *Registry) remove(s *event.Sandbox) {
	watched := maps.Clone(*r.watched.Load())
	delete(watched, s.CgroupID)
	r.watched.Store(&watched)
}

// dir is the directory of a cgroup, when it is below what is mounted.
func (m Mount) dir(cgroup string) (string, bool) {
	below, err := filepath.Rel(m.Root, cgroup)
	if err != nil || below == ".." || strings.HasPrefix(below, "../") {
		return "", false
	}
	return filepath.Join(m.Dir, below), true
}
