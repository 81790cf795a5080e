// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	// mapBudget is how much the maps and the ring may take with the default configuration before anything is watched, on a
	// machine of up to mapBudgetCPUs possible processors; perCPUBudget is what each may add.
	mapBudget     = 32 << 20
	mapBudgetCPUs = 128
	// fullCPUs is on how many processors they may take no more than mapBudget when every map is full, but for what each
	// sandbox takes: perSandboxBudget.
	fullCPUs         = 2
	perSandboxBudget = 4 << 10
	perCPUBudget     = 96 << 10
)

// heldMap is a map of which this process holds a descriptor.
type heldMap struct {
	id     ebpf.MapID
	name   string
	memory uint64
	// perCPU is how much of that is there for each possible processor, perRoom for each room of execs, growth what it takes
	// more once it is full.
	perCPU, perRoom, growth uint64
}

// on is how much the map would take on so many processors, of the machine's.
func (m *heldMap) on(cpus, machine uint64) uint64 {
	return m.memory + (cpus*m.perCPU + min(cpus, maxExecRooms)*m.perRoom) - (machine*m.perCPU + min(machine, maxExecRooms)*m.perRoom)
}

// heldMaps is the maps that this process holds, by their descriptors: those that no Go variable shows, too.
func heldMaps(t testing.TB) map[ebpf.MapID]heldMap {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no descriptors: %v", err)
	}
	held := map[ebpf.MapID]heldMap{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it was the folder's own
		}
		var id, memory uint64
		for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ":")
			n, _ := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			switch name {
			case "map_id":
				id = n
			case "memlock":
				memory = n
			}
		}
		if id != 0 {
			held[ebpf.MapID(id)] = heldMap{id: ebpf.MapID(id), memory: memory}
		}
	}
	return held
}

// describe finds out what else is to be known of a map.
func (m *heldMap) describe(t testing.TB) {
	t.Helper()
	opened, err := ebpf.NewMapFromID(m.id)
	if err != nil {
		t.Fatalf("opening map %d: %v", m.id, err)
	}
	defer opened.Close()
	m.memory = mapMemory(t, opened, map[uint32]bool{})
	info, err := opened.Info()
	if err != nil {
		t.Fatal(err)
	}
	m.name = info.Name
	if info.Type == ebpf.RingBuf { // kernels before 6.4 multiply keys and values, of which it has none
		m.memory = max(m.memory, uint64(info.MaxEntries))
	}
	value := uint64(info.ValueSize+7) &^ 7
	element := 48 + uint64(info.KeySize+7)&^7 + value // struct htab_elem
	const locks = 8 * 4                               // HASHTAB_MAP_LOCK_COUNT
	if info.Flags&unix.BPF_F_NO_PREALLOC != 0 {
		m.growth = uint64(info.MaxEntries) * element
	}
	switch info.Type {
	case ebpf.PerCPUArray:
		m.perCPU = value * uint64(info.MaxEntries)
	case ebpf.PerCPUHash, ebpf.LRUCPUHash:
		t.Errorf("%s has a value of each element for each CPU: nobody adds that up here", m.name)
	case ebpf.Hash:
		m.perCPU = locks
		if info.Flags&unix.BPF_F_NO_PREALLOC == 0 {
			m.perCPU += element + 8 // one more element, and where it is (htab_has_extra_elems)
		}
	case ebpf.LRUHash:
		m.perCPU = locks
	case ebpf.TaskStorage, ebpf.SkStorage:
		m.perCPU = 2 * 16 // struct bpf_local_storage_map_bucket, to the next power of two
	case ebpf.Array:
		if slices.Contains([]string{"exec_rooms", "room_doors", "path_walks"}, m.name) {
			m.perRoom = value
		}
	default: // the same on any number of them
	}
}

// TestKernelMapMemory holds what the kernel keeps for a tracer of the default configuration, with pins, to the budget: the sum
// over every map that it holds, as the kernel accounts for them. Task and socket storage is empty then, and so are the
// maps that grow as they are used.
func TestKernelMapMemory(t *testing.T) {
	requireKernel(t)
	possible, err := ebpf.PossibleCPU()
	if err != nil {
		t.Fatal(err)
	}
	machine := uint64(possible)
	before := heldMaps(t)
	cfg := testConfig()
	cfg.Pins = &Pins{Dir: pinDirectory(t), Version: "test"}
	cfg.Watched = func(string) bool { return false }
	tracer, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer tracer.Close()
	var all []heldMap
	var perCPU, growth, perSandbox uint64
	for id, m := range heldMaps(t) {
		if _, old := before[id]; old {
			continue
		}
		m.describe(t)
		all = append(all, m)
		perCPU += m.perCPU
		switch m.name {
		case "event_counts", "pin_sandboxes":
			perSandbox += m.growth / uint64(cfg.MaxSandboxes)
		case "pin_losses": // of those that lost something
		default:
			growth += m.growth
		}
	}
	slices.SortFunc(all, func(a, b heldMap) int { return cmp.Compare(b.memory, a.memory) })
	for _, m := range all {
		t.Logf("%-16s %9d bytes, of which for each CPU %d; %d more when it is full", m.name, m.memory, m.perCPU, m.growth)
	}
	sum := func(cpus uint64) (sum uint64) {
		for i := range all {
			sum += all[i].on(cpus, machine)
		}
		return sum
	}
	for _, cpus := range []uint64{2, 16, 64, 128} {
		t.Logf("%d maps: %.1f MiB on %d CPUs, of which for each CPU %d bytes", len(all), float64(sum(cpus))/(1<<20), cpus, perCPU)
	}
	t.Logf("when all are full %d bytes more, and %d for each sandbox", growth, perSandbox)
	if least := sum(machine); len(all) < 40 || least < uint64(cfg.RingBytes) {
		t.Fatalf("%d maps of %d bytes cannot be all: the ring alone has %d", len(all), least, cfg.RingBytes)
	}
	if perCPU > perCPUBudget {
		t.Errorf("%d bytes for each CPU, the budget is %d", perCPU, perCPUBudget)
	}
	if perSandbox > perSandboxBudget {
		t.Errorf("%d bytes for each sandbox, the budget is %d", perSandbox, perSandboxBudget)
	}
	if most := sum(mapBudgetCPUs); most > mapBudget {
		t.Errorf("%d bytes on %d CPUs, the budget is %d", most, mapBudgetCPUs, mapBudget)
	}
	if most := sum(fullCPUs) + growth; most > mapBudget {
		t.Errorf("%d bytes on %d CPUs when the maps are full, the budget is %d", most, fullCPUs, mapBudget)
	}
}

// TestKernelSandboxMemory: what one more sandbox takes is a small part of a ring, so that ten thousand find room.
func TestKernelSandboxMemory(t *testing.T) {
	requireKernel(t)
	tracer, err := Open(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer tracer.Close()
	memory := func() (sum uint64) {
		counted := map[uint32]bool{}
		for i := range tracer.probes {
			if c := tracer.probes[i].collection; c != nil {
				for _, m := range c.Maps {
					sum += mapMemory(t, m, counted)
				}
			}
		}
		return sum
	}
	// 1,000 would tell the same: what the kernel takes for one at a time is of one size.
	const count = 64
	parent, before := scratchCgroup(t), memory()
	for i := range count {
		if err := tracer.Track(cgroupID(t, makeCgroup(t, filepath.Join(parent, fmt.Sprint(i))))); err != nil {
			t.Fatal(err)
		}
	}
	grown := memory() - before
	t.Logf("%d bytes for %d sandboxes", grown, count)
	if grown > count*perSandboxBudget {
		t.Errorf("%d sandboxes take %d bytes, the budget is %d each", count, grown, perSandboxBudget)
	}
}
