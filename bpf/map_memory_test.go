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
	mapBudgetCPUs = 16
	// fullCPUs is on how many processors they may take no more than mapBudget when every map is full, but for what each
	// sandbox takes: perSandboxBudget.
	fullCPUs         = 2
	perSandboxBudget = 4 << 10
	perCPUBudget     = 640 << 10
)

// heldMap is a map of which this process holds a descriptor.
type heldMap struct {
	id     ebpf.MapID
	name   string
	memory uint64
	// perCPU is how much of that is there for each possible processor, growth what it takes more once it is full.
	perCPU, growth uint64
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
func (m *heldMap) describe(t testing.TB, cpus uint64) {
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
	if info.Flags&unix.BPF_F_NO_PREALLOC != 0 {
		const element = 48 // struct htab_elem
		m.growth = uint64(info.MaxEntries) * (element + uint64(info.KeySize+7)&^7 + value)
	}
	switch info.Type {
	case ebpf.PerCPUArray, ebpf.PerCPUHash, ebpf.LRUCPUHash:
		m.perCPU = value * uint64(info.MaxEntries)
	default:
		if m.name == "exec_rooms" { // an array with a value for each
			m.perCPU = m.memory / cpus
		}
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
	cpus := uint64(possible)
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
	var sum, perCPU, growth, perSandbox uint64
	for id, m := range heldMaps(t) {
		if _, old := before[id]; old {
			continue
		}
		m.describe(t, cpus)
		all = append(all, m)
		sum += m.memory
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
	t.Logf("%d maps: %d bytes on %d CPUs, %d for each CPU; %d on 64; when all are full %d more, and %d for each sandbox",
		len(all), sum, cpus, perCPU, sum-cpus*perCPU+64*perCPU, growth, perSandbox)
	if len(all) < 40 || sum < uint64(cfg.RingBytes) {
		t.Fatalf("%d maps of %d bytes cannot be all: the ring alone has %d", len(all), sum, cfg.RingBytes)
	}
	if perCPU > perCPUBudget {
		t.Errorf("%d bytes for each CPU, the budget is %d", perCPU, perCPUBudget)
	}
	if perSandbox > perSandboxBudget {
		t.Errorf("%d bytes for each sandbox, the budget is %d", perSandbox, perSandboxBudget)
	}
	fixed := sum - cpus*perCPU
	if most := fixed + mapBudgetCPUs*perCPU; most > mapBudget {
		t.Errorf("%d bytes on %d CPUs, the budget is %d", most, mapBudgetCPUs, mapBudget)
	}
	if most := fixed + fullCPUs*perCPU + growth; most > mapBudget {
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
