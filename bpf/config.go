// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"strings"
	"time"
)

// Bounds of a Config. The kernel side has room for as many names of that length (struct environment).
const (
	maxRingBytes       = 1 << 30
	maxEnvironment     = len(processEnvironment{}.Names)
	maxEnvironmentName = 8*len(processEnvironment{}.Names[0].Words) - len("=")
	maxMaxSandboxes    = 1 << 20
	minFlowInterval    = 100 * time.Millisecond
)

// Config is what a Tracer is to watch, and with how much memory.
type Config struct {
	// RingBytes is the size of the ring buffer: a power of two, at least a page.
	RingBytes int
	// MaxSandboxes bounds the watched cgroups: sandboxes and every cgroup below them.
	MaxSandboxes int
	// Environment is the names of the environment variables that execs tell; no others leave the kernel.
	Environment []string
	// BulkBudget and KeptBudget are how many bytes of records a sandbox may send in a second: of what is common,
	// opens and flows, and of what is kept apart, connects and what is watched. 0 is any number. Execs and exits
	// have no budget: they are never refused.
	BulkBudget, KeptBudget int
	// SyscallCounts is whether system calls are counted; "" is CountAuto.
	SyscallCounts Counting
	// SyscallLatency is whether it is told how long system calls take, for which they are counted in any case. Every
	// process of the node pays for a second hook then.
	SyscallLatency bool
	// Plan is by what kind of hooks system calls are seen; "" is PlanAuto.
	Plan Plan
	// FileIO turns on counting of what processes read and write of files.
	FileIO bool
	// FlowInterval is how long a connection goes on before what went over it so far is told, and then again; 0 tells
	// its end alone. What is open when Run ends is told so far in any case.
	FlowInterval time.Duration
	// Watched says whether a path is of a file whose opens are all told. Of other files a process's repeated opens
	// are told by a count. Nil tells all opens one by one. It is called from the goroutine of Run.
	Watched func(path string) bool
	// Hold says up to where records may leave a ring that was read up to one position and reaches to another, so that
	// what a killed collector had read and not written down is found by the next. What is held is room that the ring
	// lacks. It is called from the goroutine of Run, after every few records. Nil, or without pins, records leave as
	// they are read.
	Hold func(ring, read, end uint64) uint64
	// Pins is where programs and maps live on without this process; nil for nowhere.
	Pins *Pins
	// Mount is where the cgroup2 hierarchy is mounted; "" finds out.
	Mount string
	// Logger takes what is worth a person's look. Nil discards it.
	Logger *slog.Logger
	// execRooms is in how many places execs can be told at once; 0 for what is good on this machine.
	execRooms int
}

// Counting is whether something is counted that every process of the node pays for.
type Counting string

const (
	// CountAuto counts where every process pays for the hook anyway: under the tracepoint plan.
	CountAuto Counting = "auto"
	// CountOn always counts.
	CountOn Counting = "true"
	// CountOff never does.
	CountOff Counting = "false"
)

// Validate says whether it is one of the three.
func (c Counting) Validate() error {
	switch c {
	case CountAuto, CountOn, CountOff:
		return nil
	default:
		return fmt.Errorf("counting can be %s, %s or %s, not %q", CountAuto, CountOn, CountOff, string(c))
	}
}

// countsCalls says whether system calls are counted where a plan is followed.
func (c *Config) countsCalls(plan Plan) bool {
	if c.SyscallLatency {
		return true
	}
	switch c.SyscallCounts {
	case CountOn:
		return true
	case CountOff:
		return false
	default: // CountAuto
		return plan == PlanTracepoint
	}
}

// DefaultConfig is what is good for most machines: 8 MiB of ring, and the variables in which agents
// tell which session and tool call a process belongs to.
func DefaultConfig() Config {
	return Config{
		RingBytes:    8 << 20,
		MaxSandboxes: 16384,
		// Less than the room that the ring has for them in the time that a budget lasts.
		BulkBudget: 32 << 20,
		KeptBudget: 16 << 20,
		Environment: []string{
			"CODEX_TOOL_CALL_ID", "CODEX_THREAD_ID", "CODEX_SESSION_ID", "TRACEPARENT",
			"CLAUDE_CODE_SESSION_ID", "CLAUDECODE", "GEMINI_CLI", "GEMINI_SESSION_ID",
			"OPENCODE", "OPENCODE_PID", "AI_AGENT", "OTEL_RESOURCE_ATTRIBUTES",
			"WATCHGLASS_CALL_ID", "WATCHGLASS_SESSION_ID",
		},
		Plan:          PlanAuto,
		SyscallCounts: CountAuto,
		FileIO:        true,
		FlowInterval:  30 * time.Second,
	}
}

// Validate says what is wrong with the configuration, all of it.
func (c *Config) Validate() error {
	var errs []error
	if c.RingBytes < os.Getpagesize() || c.RingBytes > maxRingBytes || bits.OnesCount(uint(c.RingBytes)) != 1 {
		errs = append(errs, fmt.Errorf("ring size %d is not a power of two from %d to %d",
			c.RingBytes, os.Getpagesize(), maxRingBytes))
	}
	if c.MaxSandboxes < 1 || c.MaxSandboxes > maxMaxSandboxes {
		errs = append(errs, fmt.Errorf("bound of %d sandboxes is not from 1 to %d", c.MaxSandboxes, maxMaxSandboxes))
	}
	if c.BulkBudget < 0 || c.KeptBudget < 0 {
		errs = append(errs, fmt.Errorf("budgets of %d and %d bytes are less than none", c.BulkBudget, c.KeptBudget))
	}
	if c.FlowInterval != 0 && c.FlowInterval < minFlowInterval {
		errs = append(errs, fmt.Errorf("interval of flows %v is less than %v", c.FlowInterval, minFlowInterval))
	}
	if len(c.Environment) > maxEnvironment {
		errs = append(errs, fmt.Errorf("%d environment variables are more than %d", len(c.Environment), maxEnvironment))
	}
	if c.Plan != "" {
		errs = append(errs, c.Plan.Validate())
	}
	if c.SyscallCounts != "" {
		errs = append(errs, c.SyscallCounts.Validate())
	}
	if c.SyscallLatency && c.SyscallCounts == CountOff {
		errs = append(errs, errors.New("how long system calls take is not told where they are not counted"))
	}
	for _, name := range c.Environment {
		if name == "" || len(name) > maxEnvironmentName || strings.ContainsAny(name, "=\x00") {
			errs = append(errs, fmt.Errorf("%q cannot be the name of an environment variable to watch", name))
		}
	}
	return errors.Join(errs...)
}

// wakeBytes is how much must wait in the ring before the reader is woken at once. Less wakes more often
// than the reader would look by itself; more leaves a burst too little room.
func (c *Config) wakeBytes() uint32 {
	if c.Hold != nil {
		return uint32(c.RingBytes/16 + c.HoldBytes()) // else every record would wake the reader while others are held
	}
	return uint32(c.RingBytes / 16)
}

// HoldBytes is how much of the ring may be taken while records are held: beyond, the kernel side begins to be sparing.
func (c *Config) HoldBytes() int { return c.RingBytes / 2 }

// ringLimits is how much may wait in the ring for another record of bulk, and for another that is kept, to be
// put there: what is left is for execs and exits.
func (c *Config) ringLimits() [2]uint32 {
	return [...]uint32{uint32(c.RingBytes / 4 * 3), uint32(c.RingBytes / 16 * 15)}
}

// windowBudgets is what a sandbox may send in one window of the kernel side (EVENT_WINDOW).
func (c *Config) windowBudgets() [2]uint64 {
	const windows = 10
	return [...]uint64{uint64((c.BulkBudget + windows - 1) / windows), uint64((c.KeptBudget + windows - 1) / windows)}
}
