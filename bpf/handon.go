// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
)

// Every program on the exit of system calls costs each call of the node as much as the hook itself. So one is there,
// the syscall probe's, and hands on to other probes' programs what concerns a sandbox and is theirs. Where it
// cannot be loaded, they are on the hook themselves.

// maxRoutes bounds the numbers of calls that are handed on (SYSCALL_ROUTES).
const maxRoutes = 1024

// routes says which calls a handler is to see: by the numbers of 64-bit calls, which x32 shares, and of 32-bit ones.
type routes [2][maxRoutes]bool

// handler is a program that system calls are handed on to, by its place.
type handler struct {
	probe, program string
	place          uint32
	// routes makes the table anew: who only asks for the place does without.
	routes func() *routes
}

// handlers is all of them.
func (t *Tracer) handlers() []handler {
	return []handler{
		{probe: "file", program: "file_on_sys_exit", place: 0, routes: func() *routes { return newCallTable(fileCalls()).routes() }},
		{probe: "network", program: "network_on_sys_exit", place: 1, routes: func() *routes { return newCallTable(networkCalls()).routes() }},
		{probe: "notable", program: "notable_on_sys_exit", place: 2, routes: notableRoutes},
	}
}

// notableRoutes is the notable calls.
func notableRoutes() *routes {
	r := &routes{}
	for abi, calls := range newNotableTable() {
		place := tablePlace(notableNotableAbi(abi))
		for number, call := range calls {
			r[place][number] = r[place][number] || call != nil
		}
	}
	return r
}

// handsOn is the place in the list of the probe that hands calls on.
func (t *Tracer) handsOn() int {
	return slices.IndexFunc(t.probes, func(p loadedProbe) bool { return p.name == "syscall" })
}

// loadOrder is the probes' places in the order in which they are loaded: what hands calls on goes first, since
// whether it could be loaded decides how the others are.
func (t *Tracer) loadOrder() []int {
	first := t.handsOn()
	order := make([]int, 0, len(t.probes))
	order = append(order, first)
	for i := range t.probes {
		if i != first {
			order = append(order, i)
		}
	}
	return order
}

// handingOn is whether calls are handed on at all.
func (t *Tracer) handingOn() bool {
	p := &t.probes[t.handsOn()]
	// The kernel may have refused this one program of the probe.
	return !p.off && p.err == nil && p.collection != nil && p.collection.Programs["syscall_on_sys_exit"] != nil
}

// prepareRoutes tells the program on the hook which calls to hand on to whom, and whether to count.
func (t *Tracer) prepareRoutes(spec *ebpf.CollectionSpec) error {
	if err := t.prepareCounting(spec); err != nil {
		return err
	}
	var table [maxRoutes]uint16
	handlers := t.handlers()
	for _, h := range handlers {
		for abi, numbers := range h.routes() {
			for number, hands := range numbers {
				if hands {
					table[number] |= 1 << (8*uint32(abi) + h.place)
				}
			}
		}
	}
	file := slices.IndexFunc(handlers, func(h handler) bool { return h.probe == "file" })
	// Following the other plan the file probe sees by itself what is moved: it must not be counted here too.
	moves := t.plan == PlanTracepoint
	for abi, calls := range newCallTable(fileCalls()) {
		for number, what := range calls {
			table[number] |= fileRoutes(what, moves) << (8 * uint32(abi))
		}
	}
	return setConstants(spec, map[string]any{"syscall_routes": table, "file_route": uint32(1) << handlers[file].place})
}

// fileRoutes is why the program on the hook need not hand on each call to the file probe's (enum route). moves is whether it
// counts what calls move.
func fileRoutes(call uint8, moves bool) uint16 {
	switch what := fileCall(call); {
	case what == fileCallCALL_READ && moves:
		return uint16(syscallRouteROUTE_READS)
	case what == fileCallCALL_WRITE && moves:
		return uint16(syscallRouteROUTE_WRITES)
	case what == fileCallCALL_CLOSE:
		return uint16(syscallRouteROUTE_CLOSES)
	default:
		return 0
	}
}

// handsOnCalls is whether the program on the hook is wanted: to count, or for others.
func handsOnCalls(c *Config, plan Plan) bool { return c.countsCalls(plan) || plan == PlanTracepoint }

// prepareHandler tells a probe's program whether calls are handed on to it.
func (t *Tracer) prepareHandler(spec *ebpf.CollectionSpec, p *loadedProbe) error {
	return setSwitch(spec, "syscall_handed_on", p.plan == PlanTracepoint && t.handingOn())
}

// handOn has calls handed on to a program; false means that it is none that they are handed on to.
func (t *Tracer) handOn(name string, program *ebpf.Program) (bool, error) {
	if !t.handingOn() {
		return false, nil
	}
	for _, h := range t.handlers() {
		if h.program != name {
			continue
		}
		m := t.shared["syscall_handlers"]
		if m == nil {
			return true, errors.New("there is no map of the programs that calls are handed on to")
		}
		if err := m.Put(h.place, program); err != nil {
			return true, fmt.Errorf("having calls handed on: %w", err)
		}
		return true, nil
	}
	return false, nil
}
