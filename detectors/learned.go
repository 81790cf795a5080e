// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// The bounds of one profile: what is beyond the exact set goes into a filter, which says of about one name in
// forty that it has it although it has not, once it holds mostFiltered.
const (
	mostExact    = 1024
	filterBytes  = 8192
	filterHashes = 4
	mostFiltered = 8192
	// mostPending is how many lessons are known not to be in the file yet; of older ones it is only hoped.
	mostPending = 256
	// countEvery is how often the sessions of one sandbox count: who makes up sessions inside must not make anything
	// look usual in no time.
	countEvery = 10 * time.Minute
)

// learned is what is usual, by agent and project.
type learned struct {
	most int
	// key makes the hashes: a sandbox must not be able to make up a name that counts as a known one.
	key      [32]byte
	profiles map[profileID]*profile
	// pending is what was learned since the file was written, taken how many lessons there were in all.
	pending []lesson
	taken   uint64
	evicted uint64
}

// profile is the habits of an agent in a project.
type profile struct {
	sessions int
	// last is when a session last ended that counted, and lastIn the sandbox of it.
	last            time.Time
	lastIn          string
	binaries, sites names
	rates           [rateClasses]habit
}

// lesson is what one session did.
type lesson struct {
	number          uint64
	profile         profileID
	sandbox         string
	at              time.Time
	binaries, sites []uint64
	rates           [rateClasses]habit
}

// names is a set of hashes of names: exact and sorted while it is small, then a Bloom filter.
type names struct {
	exact  []uint64
	filter []byte
	count  int
}

func (n *names) has(h uint64) bool {
	if n.filter == nil {
		_, found := slices.BinarySearch(n.exact, h)
		return found
	}
	for i := range uint64(filterHashes) {
		if bit := filterBit(h, i); n.filter[bit/8]&(1<<(bit%8)) == 0 {
			return false
		}
	}
	return true
}

// filterBit is the i-th bit of a hash: two halves are enough to make as many as one likes (Kirsch and Mitzenmacher).
func filterBit(h, i uint64) uint64 { return (h&math.MaxUint32 + i*(h>>32|1)) % (8 * filterBytes) }

// add takes a name in. Beyond mostFiltered it refuses: a filter that has everything finds nothing new.
func (n *names) add(h uint64) bool {
	if n.has(h) {
		return true
	}
	switch {
	case n.count >= mostFiltered:
		return false
	case n.filter == nil && len(n.exact) < mostExact:
		at, _ := slices.BinarySearch(n.exact, h)
		n.exact = slices.Insert(n.exact, at, h)
	default:
		if n.filter == nil {
			n.filter = make([]byte, filterBytes)
			for _, known := range n.exact {
				n.mark(known)
			}
			n.exact = nil
		}
		n.mark(h)
	}
	n.count++
	return true
}

func (n *names) mark(h uint64) {
	for i := range uint64(filterHashes) {
		bit := filterBit(h, i)
		n.filter[bit/8] |= 1 << (bit % 8)
	}
}

func newLearned(most int) learned {
	l := learned{most: most, profiles: map[profileID]*profile{}}
	_, _ = rand.Read(l.key[:]) // documented never to fail
	return l
}

// hash is a name under the key, with what it names. buffer is for the work; the result is what it has become.
func (l *learned) hash(buffer []byte, what byte, name string) (sum uint64, used []byte) {
	buffer = append(append(append(buffer[:0], l.key[:]...), what), name...)
	digest := sha256.Sum256(buffer)
	return binary.LittleEndian.Uint64(digest[:]), buffer
}

// take takes a lesson in.
func (l *learned) take(s *lesson) {
	l.taken++
	s.number = l.taken
	l.apply(s)
	if len(l.pending) == mostPending {
		l.pending = slices.Delete(l.pending, 0, 1)
	}
	l.pending = append(l.pending, *s)
}

func (l *learned) apply(s *lesson) {
	p := l.profiles[s.profile]
	if p == nil {
		for len(l.profiles) >= l.most {
			l.evict()
		}
		p = &profile{}
		l.profiles[s.profile] = p
	}
	for _, h := range s.binaries {
		if !p.binaries.add(h) {
			l.evicted++
		}
	}
	for _, h := range s.sites {
		if !p.sites.add(h) {
			l.evicted++
		}
	}
	for c := range s.rates {
		p.rates[c].merge(&s.rates[c])
	}
	if p.sessions == 0 || s.sandbox != p.lastIn || s.at.Sub(p.last) >= countEvery {
		p.sessions++
		p.last, p.lastIn = s.at, s.sandbox
	}
}

// evict forgets the profile that was used longest ago.
func (l *learned) evict() {
	var oldest profileID
	found := false
	for id, p := range l.profiles {
		if !found || p.last.Before(l.profiles[oldest].last) {
			oldest, found = id, true
		}
	}
	delete(l.profiles, oldest)
	l.evicted++
}

// names is how many names all profiles have.
func (l *learned) names() int {
	n := 0
	for _, p := range l.profiles {
		n += p.binaries.count + p.sites.count
	}
	return n
}

// The file of what was learned: a line with the format's name and the SHA-256 of the rest, then JSON.
const (
	learnedFormat = "watchglass.baselines/v1"
	mostLearned   = 64 << 20
)

type learnedFile struct {
	Key      []byte           `json:"key"`
	Profiles []learnedProfile `json:"profiles"`
}

type learnedProfile struct {
	Agent    string           `json:"agent"`
	Project  string           `json:"project"`
	Sessions int              `json:"sessions"`
	Last     time.Time        `json:"last"`
	LastIn   string           `json:"last_in"`
	Binaries learnedNames     `json:"binaries"`
	Sites    learnedNames     `json:"sites"`
	Rates    map[string]habit `json:"rates"`
}

type learnedNames struct {
	Count  int    `json:"count"`
	Exact  []byte `json:"exact,omitempty"`
	Filter []byte `json:"filter,omitempty"`
}

// ErrBaselines is of a file of baselines that is none, is damaged, or of a version that is not known.
var ErrBaselines = errors.New("it is no file of baselines")

// Encode writes all that was learned. last is its last lesson, for Saved. It may be called from any goroutine.
func (b *Baselines) Encode(w io.Writer) (last uint64, err error) {
	b.mu.Lock()
	file, last := b.learned.snapshot(), b.learned.taken
	b.mu.Unlock()
	body, err := json.Marshal(file)
	if err != nil {
		return 0, fmt.Errorf("encode baselines: %w", err)
	}
	sum := sha256.Sum256(body)
	if _, err := fmt.Fprintf(w, "%s %s\n%s", learnedFormat, hex.EncodeToString(sum[:]), body); err != nil {
		return 0, fmt.Errorf("write baselines: %w", err)
	}
	return last, nil
}

// Unsaved says that something was learned that no file has yet. It may be called from any goroutine.
func (b *Baselines) Unsaved() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.learned.pending) > 0
}

// Saved says that the file has all up to the lesson last. It may be called from any goroutine.
func (b *Baselines) Saved(last uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.learned.pending = slices.DeleteFunc(b.learned.pending, func(l lesson) bool { return l.number <= last })
}

// Restore puts what a file holds in place of what was learned, and what is not saved on top of it: another collector
// may have written the file since. With an error, which is ErrBaselines for a bad file, nothing changes. It may be
// called from any goroutine.
func (b *Baselines) Restore(r io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(r, mostLearned+1))
	if err != nil {
		return fmt.Errorf("read baselines: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	fresh, err := decodeLearned(data, b.learned.most)
	if err != nil {
		return err
	}
	if fresh.key != b.learned.key && len(b.learned.pending) > 0 {
		// Their hashes are of another key: they say nothing. Rates do.
		for i := range b.learned.pending {
			b.learned.pending[i].binaries, b.learned.pending[i].sites = nil, nil
		}
	}
	fresh.pending, fresh.taken, fresh.evicted = b.learned.pending, b.learned.taken, fresh.evicted+b.learned.evicted
	for i := range fresh.pending {
		fresh.apply(&fresh.pending[i])
	}
	b.learned = fresh
	return nil
}

// snapshot is a copy of all, in the form of the file.
func (l *learned) snapshot() *learnedFile {
	file := &learnedFile{Key: slices.Clone(l.key[:])}
	ids := slices.SortedFunc(maps.Keys(l.profiles), func(a, b profileID) int {
		return strings.Compare(a.agent+"\x00"+a.project, b.agent+"\x00"+b.project)
	})
	for _, id := range ids {
		p := l.profiles[id]
		out := learnedProfile{
			Agent: id.agent, Project: id.project, Sessions: p.sessions, Last: p.last, LastIn: p.lastIn,
			Binaries: p.binaries.file(), Sites: p.sites.file(), Rates: map[string]habit{},
		}
		for c := range p.rates {
			if p.rates[c].Windows > 0 {
				out.Rates[rateClass(c).name()] = p.rates[c]
			}
		}
		file.Profiles = append(file.Profiles, out)
	}
	return file
}

func (n *names) file() learnedNames {
	out := learnedNames{Count: n.count, Filter: slices.Clone(n.filter)}
	for _, h := range n.exact {
		out.Exact = binary.LittleEndian.AppendUint64(out.Exact, h)
	}
	return out
}

// decodeLearned reads a file, of which the profiles used last are kept.
func decodeLearned(data []byte, most int) (learned, error) {
	l := learned{most: most, profiles: map[profileID]*profile{}}
	if len(data) > mostLearned {
		return l, fmt.Errorf("%w: it has more than %d bytes", ErrBaselines, mostLearned)
	}
	head, body, _ := bytes.Cut(data, []byte("\n"))
	format, sum, _ := strings.Cut(string(head), " ")
	if format != learnedFormat {
		return l, fmt.Errorf("%w: its first line does not begin with %s", ErrBaselines, learnedFormat)
	}
	if have := sha256.Sum256(body); hex.EncodeToString(have[:]) != sum {
		return l, fmt.Errorf("%w: it is damaged, its checksum is another's", ErrBaselines)
	}
	var file learnedFile
	if err := json.Unmarshal(body, &file); err != nil {
		return l, fmt.Errorf("%w: %w", ErrBaselines, err)
	}
	if len(file.Key) != len(l.key) || len(file.Profiles) > mostProfiles {
		return l, fmt.Errorf("%w: its key or the number of its profiles is not possible", ErrBaselines)
	}
	copy(l.key[:], file.Key)
	for i := range file.Profiles {
		p, err := file.Profiles[i].profile()
		if err != nil {
			return l, fmt.Errorf("%w: profile %d: %w", ErrBaselines, i, err)
		}
		l.profiles[profileID{file.Profiles[i].Agent, file.Profiles[i].Project}] = p
	}
	for len(l.profiles) > most {
		l.evict()
	}
	return l, nil
}

var (
	errNotPossible = errors.New("its numbers are not possible")
	errNames       = errors.New("its set of names is not possible")
)

func (f *learnedProfile) profile() (*profile, error) {
	p := &profile{sessions: f.Sessions, last: f.Last, lastIn: f.LastIn}
	if f.Sessions < 0 || len(f.Agent) > longestName || len(f.Project) > longestProject || len(f.LastIn) > longestProject {
		return nil, errNotPossible
	}
	var err error
	if p.binaries, err = f.Binaries.names(); err != nil {
		return nil, err
	}
	if p.sites, err = f.Sites.names(); err != nil {
		return nil, err
	}
	for c := range p.rates {
		p.rates[c] = f.Rates[rateClass(c).name()]
		if !p.rates[c].possible() {
			return nil, errNotPossible
		}
	}
	return p, nil
}

func (f *learnedNames) names() (names, error) {
	n := names{count: f.Count, filter: f.Filter}
	for at := 0; at+8 <= len(f.Exact); at += 8 {
		n.exact = append(n.exact, binary.LittleEndian.Uint64(f.Exact[at:]))
	}
	whole := len(f.Exact)%8 == 0 && slices.IsSorted(n.exact) && f.Count >= 0 && f.Count <= mostFiltered
	switch {
	case whole && f.Filter == nil && len(n.exact) == f.Count && f.Count <= mostExact:
	case whole && len(f.Filter) == filterBytes && len(n.exact) == 0 && f.Count > mostExact:
	default:
		return names{}, errNames
	}
	return n, nil
}
