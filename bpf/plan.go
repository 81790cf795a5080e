// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// Plan is by what kind of hooks the probes see system calls.
type Plan string

const (
	// PlanAuto is the trampoline plan where the kernel allows all of it, the tracepoint plan elsewhere.
	PlanAuto Plan = "auto"
	// PlanTracepoint hangs on the one tracepoint that all system calls pass. It works everywhere, and every process
	// of the node pays for it.
	PlanTracepoint Plan = "tracepoint"
	// PlanTrampoline hangs on the kernel functions that do the work of the calls that matter. Other calls cost what
	// they did before.
	PlanTrampoline Plan = "trampoline"
)

// Validate says whether it is a plan.
func (p Plan) Validate() error {
	switch p {
	case PlanAuto, PlanTracepoint, PlanTrampoline:
		return nil
	default:
		return fmt.Errorf("%q is no hook plan; there are %s, %s and %s", string(p), PlanAuto, PlanTracepoint, PlanTrampoline)
	}
}

// ErrNoTrampolines is the error of the trampoline plan on a kernel that refuses it.
var ErrNoTrampolines = errors.New("this kernel does not let programs hang on its functions (fexit)")

// chosen is the plan that is followed, and why; returns is how the probes that need it hang on the returns of many functions.
type chosen struct {
	plan    Plan
	why     string
	returns returning
}

// choose is the plan that is followed where p is asked for.
func (p Plan) choose() (chosen, error) {
	if p == PlanTracepoint {
		return chosen{plan: p, why: "asked for"}, nil
	}
	err := tryFexit()
	switch {
	case err == nil && p == PlanTrampoline:
		return chosen{p, "asked for", tryReturns()}, nil
	case err == nil:
		return chooseHanging(tryReturns()), nil
	case p == PlanTrampoline:
		return chosen{plan: p}, fmt.Errorf("following the hook plan %s: %w, which Linux allows since %s: %s", p, ErrNoTrampolines, hangsSince, firstLine(err))
	default:
		return chosen{plan: PlanTracepoint, why: "programs cannot hang on kernel functions (fexit, since Linux " + hangsSince + "): " + firstLine(err)}, nil
	}
}

// chooseHanging is PlanAuto where programs can hang on one function. The notable probe needs the returns of many: without
// that it falls back to the tracepoint, and the node pays for both plans, more than for the other one.
func chooseHanging(returns returning) chosen {
	c := chosen{PlanTrampoline, "the kernel lets programs hang on its functions", returns}
	switch {
	case returns.err != nil:
		c.plan = PlanTracepoint
		c.why = "programs cannot hang on the returns of many kernel functions, so that every system call would pass a tracepoint all the same: " +
			firstLine(returns.err)
	case returns.each:
		c.why += "; on the returns of many one by one, by kretprobes, for want of CONFIG_FPROBE"
	}
	return c
}

// triedFunction is the kernel function that programs are tried on. One that no probe hangs on, and that nobody calls in
// passing: where a program comes to a function, or goes, the kernel runs none of those that hang there for the calls that are
// under way, and a collector that already watches would not see them. And one that is there for modules, which no compiler
// makes a part of its callers.
const triedFunction = "orderly_reboot"

// tryMultiReturn attaches a program for a moment to the return of a function as of many.
func tryMultiReturn() error {
	return try(&ebpf.ProgramSpec{Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceKprobeMulti}, func(p *ebpf.Program) (link.Link, error) {
		return link.KretprobeMulti(p, link.KprobeMultiOptions{Symbols: []string{triedFunction}})
	})
}

// tryFexit attaches a program to a kernel function for a moment.
func tryFexit() error {
	return try(&ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFExit, AttachTo: triedFunction,
	}, func(p *ebpf.Program) (link.Link, error) { return link.AttachTracing(link.TracingOptions{Program: p}) })
}

// try loads a program of that kind which does nothing, and attaches it for a moment.
func try(spec *ebpf.ProgramSpec, attach func(*ebpf.Program) (link.Link, error)) error {
	spec.License, spec.Instructions = "GPL", asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
	program, err := ebpf.NewProgram(spec)
	if err != nil {
		return err
	}
	defer program.Close() //nolint:errcheck // nothing else to do with it
	l, err := attach(program)
	if err != nil {
		return err
	}
	return l.Close()
}

// target is something of the kernel that a program of the trampoline plan hangs on.
type target struct {
	// program is the program's name.
	program string
	// functions is the kernel functions that do the work of calls. calls is those calls, by the kernel's names: where a
	// function is not there, or not reached, or there is none, the program hangs on each of their entries.
	functions []string
	calls     []string
	// proofs is calls that must end in the program. They do nothing: their arguments make no sense.
	proofs []proof
	// entry is the program that hangs on entries, "" for the same.
	entry string
	// optional is whether the probe does without where the kernel does not have the functions.
	optional bool
	// moves is whether it is for what is read and written of files, off whether the configuration does without.
	moves, off bool
}

// proof is a system call: its number, and its arguments but for the sixth.
type proof struct {
	number    uintptr
	arguments [5]uintptr
	// opened is whether the first argument is to be a descriptor that stands for something.
	opened bool
	// memory is what an argument points to, kept alive.
	memory []byte
	// prepare makes what the arguments stand for, nil where there is nothing to make.
	prepare func() (prepared, error)
}

// prepared is what a proof is made with: its arguments, and what takes back what was made for them.
type prepared struct {
	arguments [5]uintptr
	end       func() error
}

// trampolines is how a probe follows the trampoline plan.
type trampolines struct {
	// targets is what programs hang on, function by function.
	targets []target
	// program is the one that hangs on the entries of calls, all at once, each the one where that is by a kretprobe on each;
	// proofs is as in a target.
	program, each string
	calls         []string
	proofs        []proof
}

// hanging is one program on one function: a copy of the target's program.
type hanging struct {
	// target is the place of the target in the list, and the cookie of the program.
	target   int
	program  string
	function string
}

// name is what the program's copy for the function is called.
func (h *hanging) name() string { return h.program + "@" + h.function }

// follow leaves of the object's programs those of a plan, and makes one of each program for each of the hooks.
func (p *loadedProbe) follow(spec *ebpf.CollectionSpec) error {
	for name, program := range spec.Programs {
		h := hook{kind: program.Type, attach: program.AttachType}
		onCalls := program.AttachType == ebpf.AttachTraceRawTp && program.AttachTo == "sys_exit"
		if p.plan == PlanTracepoint && h.hangs() || p.plan == PlanTrampoline && onCalls {
			delete(spec.Programs, name)
		}
	}
	if p.plan != PlanTrampoline {
		return nil
	}
	if p.returns.each {
		delete(spec.Programs, p.trampolines.program)
	} else {
		delete(spec.Programs, p.trampolines.each)
	}
	for _, h := range p.hung {
		original := spec.Programs[h.program]
		if original == nil {
			return fmt.Errorf("there is no program %s", h.program)
		}
		program := original.Copy()
		program.AttachTo = h.function
		spec.Programs[h.name()] = program
	}
	for _, t := range p.trampolines.targets {
		delete(spec.Programs, t.program)
		delete(spec.Programs, t.entry)
	}
	return nil
}

// withoutMoves is the targets but for those of what is read and written of files. Places stay: they are cookies.
func (t trampolines) withoutMoves() trampolines {
	t.targets = slices.Clone(t.targets)
	for i := range t.targets {
		t.targets[i].off = t.targets[i].moves
	}
	return t
}

// hooksOf is what programs are to hang on for targets: their functions, or the entries of the calls of those that entered
// says, and of those whose function this kernel does not have.
func (p *loadedProbe) hooksOf(kernel *btf.Spec, entered func(int) bool) (functions, entries []hanging, err error) {
	for i, t := range p.trampolines.targets {
		if t.off {
			continue
		}
		if len(t.functions) > 0 && !entered(i) && hasFunctions(kernel, t.functions) {
			for _, function := range t.functions {
				functions = append(functions, hanging{i, t.program, function})
			}
			continue
		}
		found, err := entriesOf(kernel, t.calls)
		if err != nil {
			return nil, nil, err
		}
		if len(found) == 0 && t.optional {
			continue
		}
		if len(found) == 0 {
			return nil, nil, fmt.Errorf("the kernel has neither %s nor entries of %s", strings.Join(t.functions, ", "), strings.Join(t.calls, ", "))
		}
		for _, entry := range found {
			entries = append(entries, hanging{i, cmp.Or(t.entry, t.program), entry})
		}
	}
	return functions, entries, nil
}

// hasFunctions says whether the kernel has all of the functions, each under a name that is its own.
func hasFunctions(kernel *btf.Spec, names []string) bool {
	var function *btf.Func
	return !slices.ContainsFunc(names, func(name string) bool { return kernel.TypeByName(name, &function) != nil })
}

// entriesOf is the functions that calls enter by, as far as the kernel has them. Its types must name each once.
func entriesOf(kernel *btf.Spec, calls []string) (entries []string, err error) {
	var function *btf.Func
	for _, call := range calls {
		for _, prefix := range entryPrefixes() {
			err := kernel.TypeByName(prefix+call, &function)
			if err == nil {
				entries = append(entries, prefix+call)
			} else if !errors.Is(err, btf.ErrNotFound) {
				return nil, fmt.Errorf("looking for the kernel's function %s: %w", prefix+call, err)
			}
		}
	}
	return entries, nil
}

// loadPlanned loads a probe, by the plan that is followed where it can.
func (t *Tracer) loadPlanned(p *loadedProbe, index int, cache *btf.Cache) error {
	if !p.planned() {
		return t.load(p, index, cache)
	}
	if p.plan, p.returns = t.plan, t.returns; p.plan == PlanTrampoline {
		err := p.findFunctions(cache)
		if p.trampolines.program != "" {
			err = errors.Join(err, p.returns.err)
		}
		if err == nil {
			err = t.load(p, index, cache)
		}
		if err == nil {
			return nil
		}
		t.fallBack(p, err)
	}
	return t.load(p, index, cache)
}

// fallBack gives up the trampoline plan for a probe, as a whole: a plan of two halves would tell some calls twice.
func (t *Tracer) fallBack(p *loadedProbe, err error) {
	for target := range p.hangings {
		err = errors.Join(err, t.takeOff(p, target))
	}
	p.plan, p.fallback = PlanTracepoint, errors.Join(explain(err), p.close())
}

// findFunctions decides which functions the programs are loaded for.
func (p *loadedProbe) findFunctions(cache *btf.Cache) error {
	kernel, err := cache.Kernel()
	if err != nil {
		return fmt.Errorf("reading the kernel's types: %w", err)
	}
	functions, entries, err := p.hooksOf(kernel, func(int) bool { return false })
	p.hung = slices.Concat(functions, entries)
	return err
}

// hangPlanned hangs what is loaded for the trampoline plan on the kernel's functions, and proves that it runs there. Where
// it does not the probe is loaded anew, for the other plan.
func (t *Tracer) hangPlanned(p *loadedProbe, index int, cache *btf.Cache) error {
	if p.plan != PlanTrampoline {
		return nil
	}
	err := t.hangProved(p, index, cache)
	if err == nil {
		return nil
	}
	t.fallBack(p, err)
	return t.load(p, index, cache)
}

// hangProved hangs a probe on the kernel's functions, and on the entries of calls where a function has become a part of its
// callers.
func (t *Tracer) hangProved(p *loadedProbe, index int, cache *btf.Cache) error {
	if err := errors.Join(t.hang(p, p.collection), t.hangOnEntries(p)); err != nil {
		return err
	}
	unproved, err := p.prove(func(int) bool { return true })
	if err != nil || len(unproved) == 0 {
		return err
	}
	kernel, err := cache.Kernel()
	if err != nil {
		return fmt.Errorf("reading the kernel's types: %w", err)
	}
	_, entries, err := p.hooksOf(kernel, func(i int) bool { return unproved[i] != nil })
	if err != nil {
		return errors.Join(err, joined(unproved))
	}
	for i := range unproved {
		if err := t.takeOff(p, i); err != nil {
			return err
		}
	}
	// Targets without a function hang on entries already.
	p.hung = slices.DeleteFunc(entries, func(h hanging) bool { return unproved[h.target] == nil })
	if err := t.openEntries(p, index, cache); err != nil {
		return err
	}
	if unproved, err = p.prove(func(i int) bool { return unproved[i] != nil }); err != nil {
		return err
	}
	return joined(unproved)
}

// openEntries loads what is to hang on the entries of calls, with the maps of what is loaded already, and hangs it there.
func (t *Tracer) openEntries(p *loadedProbe, index int, cache *btf.Cache) error {
	spec, err := t.readObject(p, index, cache)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, h := range p.hung {
		wanted[h.name()] = true
	}
	maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return !wanted[name] })
	options := ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{}, Cache: cache}
	for name := range spec.Maps {
		if options.MapReplacements[name] = p.collection.Maps[name]; options.MapReplacements[name] == nil {
			return fmt.Errorf("map %s is not there to be shared", name)
		}
	}
	if p.entries, err = ebpf.NewCollectionWithOptions(spec, options); err != nil {
		return fmt.Errorf("loading the programs for entries: %w", err)
	}
	p.noteHooks(spec)
	return t.hang(p, p.entries)
}

func joined(errs map[int]error) error {
	return errors.Join(slices.Collect(maps.Values(errs))...)
}

func closeAll(links []link.Link) error {
	var errs []error
	for _, l := range links {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// takeOff detaches what hangs for a target.
func (t *Tracer) takeOff(p *loadedProbe, target int) error {
	var errs []error
	for _, l := range p.hangings[target] {
		errs = append(errs, l.Unpin())
	}
	errs = append(errs, closeAll(p.hangings[target]))
	delete(p.hangings, target)
	if target == onEntries && p.returns.each {
		errs = append(errs, removeReturnSets([]string{p.returnSet}))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("taking %s off the kernel's functions: %w", p.name, err)
	}
	return nil
}

// hang attaches the programs of a collection that are loaded for functions.
func (t *Tracer) hang(p *loadedProbe, collection *ebpf.Collection) error {
	for _, h := range p.hung {
		if h.target >= hookTargets {
			return fmt.Errorf("%d targets are more than there is room for", h.target+1)
		}
		to := p.hooks[h.name()]
		l, err := t.pins.attachKept(p.name, placed{name: h.name(), hook: to, program: collection.Programs[h.name()]}, func(program *ebpf.Program) (link.Link, error) {
			return link.AttachTracing(link.TracingOptions{Program: program, AttachType: to.attach, Cookie: uint64(h.target)})
		})
		if err != nil {
			return fmt.Errorf("hanging %s on %s: %w", h.program, h.function, err)
		}
		p.hangAt(h.target, l)
	}
	return nil
}

func (p *loadedProbe) hangAt(target int, l link.Link) {
	if p.hangings == nil {
		p.hangings = map[int][]link.Link{}
	}
	p.hangings[target] = append(p.hangings[target], l)
}

// onEntries stands for a target, in the place of its number, where one program hangs on the entries of many calls.
const onEntries = -1

// hangOnEntries attaches one program to the entries of many system calls.
func (t *Tracer) hangOnEntries(p *loadedProbe) error {
	name := p.trampolines.program
	if name == "" {
		return nil
	}
	symbols, err := entrySymbols(p.trampolines.calls)
	if err != nil {
		return err
	}
	if p.returns.each {
		return t.hangOnEach(p, symbols)
	}
	at := placed{name: name + "@" + digestOf(symbols), hook: p.hooks[name], program: p.collection.Programs[name]}
	l, err := t.pins.attachKept(p.name, at, func(program *ebpf.Program) (link.Link, error) {
		return link.KretprobeMulti(program, link.KprobeMultiOptions{Symbols: symbols})
	})
	if err != nil {
		return fmt.Errorf("hanging %s on %d functions: %w", name, len(symbols), err)
	}
	p.hangAt(onEntries, l)
	return nil
}

// digestOf is short for a set of functions: a link of the tracer before to another set is none to go on with.
func digestOf(symbols []string) string {
	f := form{sha256.New()}
	for _, symbol := range slices.Sorted(slices.Values(symbols)) {
		f.say(symbol)
	}
	return f.sum()
}

// entrySymbols is the kernel's functions that system calls enter by, in all calling conventions that it has.
func entrySymbols(calls []string) ([]string, error) {
	wanted := map[string]bool{}
	for _, call := range calls {
		for _, prefix := range entryPrefixes() {
			wanted[prefix+call] = true
		}
	}
	file, err := os.Open("/proc/kallsyms")
	if err != nil {
		return nil, fmt.Errorf("looking for the entries of system calls: %w", err)
	}
	defer file.Close() //nolint:errcheck // it is only read
	var found []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		// Address, type, name; then the module, which no system call is in.
		_, rest, _ := strings.Cut(lines.Text(), " ")
		_, name, _ := strings.Cut(rest, " ")
		if wanted[name] {
			found = append(found, name)
			delete(wanted, name)
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("looking for the entries of system calls: %w", err)
	}
	if len(found) == 0 {
		return nil, errors.New("the kernel names no entry of a system call")
	}
	return found, nil
}

// prove makes the calls that must end in the programs of the targets that wanted says, and returns the targets whose
// programs were not reached.
func (p *loadedProbe) prove(wanted func(int) bool) (unproved map[int]error, err error) {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("making a token: %w", err)
	}
	// It is an offset where mmap takes it: of whole pages, and not too large.
	token := binary.NativeEndian.Uint64(random[:])>>20<<16 | 1<<16
	variables := p.collection.Variables
	if err := variables["hook_token"].Set(token); err != nil {
		return nil, fmt.Errorf("setting the token: %w", err)
	}
	defer func() { err = errors.Join(err, variables["hook_token"].Set(uint64(0))) }()
	for _, call := range p.trampolines.proofs {
		if err := call.make(token, variables["hook_proofs"], 0); err != nil {
			return nil, fmt.Errorf("%s at the return of system call %d: %w", p.trampolines.program, call.number, err)
		}
	}
	unproved = map[int]error{}
	for i, t := range p.trampolines.targets {
		if t.off || !wanted(i) {
			continue
		}
		for _, call := range t.proofs {
			err := call.make(token, variables["hook_proofs"], i)
			if errors.Is(err, errUnseen) {
				unproved[i] = fmt.Errorf("%s at the return of system call %d, by %s: %w", t.program, call.number, strings.Join(t.functions, ", "), err)
			} else if err != nil {
				return nil, err
			}
		}
	}
	return unproved, nil
}

// hookTargets is how many functions an object's programs can hang on (HOOK_TARGETS).
const hookTargets = 64

// errUnseen is the error of a proof that no program met.
var errUnseen = errors.New("attached, but not reached")

// make makes the call and looks whether the program of a cookie has met it.
func (c *proof) make(token uint64, proofs *ebpf.Variable, cookie int) (err error) {
	var met [hookTargets]uint64
	if err := proofs.Set(met); err != nil {
		return fmt.Errorf("clearing the proofs: %w", err)
	}
	a := c.arguments
	if c.opened {
		fd, err := openRoot()
		if err != nil {
			return err
		}
		defer unix.Close(fd) //nolint:errcheck // it is only read
		a[0] = uintptr(fd)
	}
	if c.prepare != nil {
		made, failed := c.prepare()
		if errors.Is(failed, unix.ENOSYS) {
			return nil // the kernel has no such call
		}
		if failed != nil {
			return fmt.Errorf("%w, since there is nothing to make the call with: %w", errUnseen, failed)
		}
		defer func() { err = errors.Join(err, made.end()) }()
		a = made.arguments
	}
	result, _, errno := unix.Syscall6(c.number, a[0], a[1], a[2], a[3], a[4], uintptr(token))
	if errno == unix.ENOSYS {
		return nil // the kernel has no such call
	}
	if errno == 0 && c.number == unix.SYS_MMAP {
		_, _, _ = unix.Syscall(unix.SYS_MUNMAP, result, a[1], 0)
	}
	if err := proofs.Get(&met); err != nil {
		return fmt.Errorf("reading the proofs: %w", err)
	}
	if met[cookie] != token {
		return errUnseen
	}
	return nil
}

// openRoot opens the root directory: a descriptor that stands for something.
func openRoot() (int, error) {
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fd, fmt.Errorf("opening something to read from: %w", err)
	}
	return fd, nil
}

// choosePlan decides which hook plan is followed.
func (t *Tracer) choosePlan() error {
	asked := t.cfg.Plan
	if asked == "" {
		asked = PlanAuto
	}
	c, err := asked.choose()
	t.plan, t.planReason, t.returns = c.plan, c.why, c.returns
	return err
}

// hangs says whether a program of the hook is one of the trampoline plan.
func (h *hook) hangs() bool {
	return h.attach == ebpf.AttachTraceFExit || h.attach == ebpf.AttachTraceFEntry || h.kind == ebpf.Kprobe
}

// planned says whether the probe sees system calls, and by more than one plan.
func (p *loadedProbe) planned() bool {
	return len(p.trampolines.targets) > 0 || p.trampolines.program != ""
}

// state tells how a probe is, but for its counts.
func (p *loadedProbe) state(s *event.ProbeStats) {
	s.Name, s.Attached, s.Plan, s.Kinds = p.name, p.attached, string(p.plan), p.kinds
	if p.err != nil {
		s.Err = p.err.Error()
	}
	if p.fallback != nil {
		s.Fallback = p.fallback.Error()
	}
	s.Missed = p.missed()
}

// missed is how often the kernel did not run the programs that hang on its functions: for another run of the same
// program under way on the CPU, or because it had no room to follow one more call to its return. Kernels before 6.7 do
// not tell the latter.
func (p *loadedProbe) missed() (n uint64) {
	if p.plan != PlanTrampoline || p.collection == nil {
		return 0
	}
	for _, collection := range []*ebpf.Collection{p.collection, p.entries} {
		if collection == nil {
			continue
		}
		for _, program := range collection.Programs {
			if stats, err := program.Stats(); err == nil {
				n += stats.RecursionMisses
			}
		}
	}
	for _, l := range p.hangings[onEntries] {
		info, err := l.Info()
		if err != nil {
			continue
		}
		if multi := info.KprobeMulti(); multi != nil {
			n += multi.Missed
		}
	}
	return n + p.missedReturns()
}

// Plan is the hook plan that the tracer follows. Single probes may not: see event.ProbeStats.
func (t *Tracer) Plan() Plan { return t.plan }
