// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/watchglass/watchglass/event"
)

// Detector is what all entries of the table are: it has the methods of collector.Detector, which is
// the contract, and Stats. It is here only because New needs a type for what it returns.
type Detector interface {
	Rule() *event.Rule
	Detect(e *event.Event, report func(*event.Finding))
	Forget(sandboxID string)
	// EndSession and EndTree drop what belongs to a session, or to a process tree, that is over: see collector.Ender. What
	// outlives it is said in the rule's memory bound.
	EndSession(sandboxID, session string)
	EndTree(sandboxID string, root event.ProcessID)
	// Stats is how much the detector remembers; it may be called from any goroutine.
	Stats() event.DetectorStats
}

// Config is what users write about detectors.
type Config struct {
	// FreshFor is for how long after its last change an executable in a temporary directory is
	// reported by unbacked-exec although nobody was seen writing it.
	FreshFor time.Duration `yaml:"fresh_for"`
	// Toolchains is directories besides the system's whose compilers, linkers and package managers are
	// believed when they write an executable, although they came during the session: for example
	// "/home/dev/.rustup/toolchains".
	Toolchains []string `yaml:"toolchains"`
	// Canaries is what nobody has a reason to touch: absolute paths, host names, and tokens of at least 16 bytes
	// without a dot.
	Canaries []string `yaml:"canaries"`
	// SaturationFloor is the processor time of one process, outside of builds and tests, from which on resource-hijack
	// reports it; and for how long a sandbox may keep a processor busy so.
	SaturationFloor time.Duration `yaml:"saturation_floor"`
	// MaxSandboxes is how many sandboxes each detector remembers, MaxEntries how much of each.
	// The least recently used is forgotten first; a finding may then be reported anew.
	MaxSandboxes int `yaml:"max_sandboxes"`
	MaxEntries   int `yaml:"max_entries"`
	// Baselines is how what is usual is learned, Profiles what differs by agent and project.
	Baselines BaselinesConfig `yaml:"baselines"`
	Profiles  []ProfileConfig `yaml:"profiles"`
	// Policy is asked by the detectors that depend on one.
	Policy Policy `yaml:"-"`
	// Usual is what the statistical detectors share; nil makes New make it.
	Usual *Baselines `yaml:"-"`
}

// Policy is the questions that detectors ask the policy in force. All must be set.
type Policy struct {
	// SecretAllowed says that the configuration lets executable read the secret at path.
	SecretAllowed func(path, executable string) bool
	// Allowed says that the configuration lets sandboxes reach peer.
	Allowed func(transport event.Transport, peer netip.AddrPort) bool
	// Observing says that there is no allow-list of destinations: then all are allowed, which says nothing.
	Observing func() bool
}

// DefaultConfig is the configuration without a file. It lacks the Policy.
func DefaultConfig() Config {
	return Config{FreshFor: 10 * time.Minute, SaturationFloor: 10 * time.Minute, MaxSandboxes: 256, MaxEntries: 1024, Baselines: defaultBaselines()}
}

// The limits of the configuration, so that a typing error does not become the memory bound.
const (
	mostSandboxes = 1 << 16
	mostEntries   = 1 << 16
	mostCanaries  = 256
	mostFreshFor  = 30 * 24 * time.Hour
	leastFloor    = time.Second
	mostFloor     = 24 * time.Hour
)

var errNoPolicy = errors.New("detectors: the policy's questions are not all set")

// Validate says what is wrong with what users wrote.
func (c *Config) Validate() error {
	switch {
	case c.MaxSandboxes < 1 || c.MaxSandboxes > mostSandboxes:
		return fmt.Errorf("detectors.max_sandboxes: %d is not between 1 and %d", c.MaxSandboxes, mostSandboxes)
	case c.MaxEntries < 1 || c.MaxEntries > mostEntries:
		return fmt.Errorf("detectors.max_entries: %d is not between 1 and %d", c.MaxEntries, mostEntries)
	case c.FreshFor < 0 || c.FreshFor > mostFreshFor:
		return fmt.Errorf("detectors.fresh_for: %s is not between 0s and %s", c.FreshFor, mostFreshFor)
	case c.SaturationFloor < leastFloor || c.SaturationFloor > mostFloor:
		return fmt.Errorf("detectors.saturation_floor: %s is not between %s and %s", c.SaturationFloor, leastFloor, mostFloor)
	}
	if len(c.Canaries) > mostCanaries {
		return fmt.Errorf("detectors.canaries: there are %d, the most are %d", len(c.Canaries), mostCanaries)
	}
	for i, canary := range c.Canaries {
		if kindOfCanary(canary) == canaryToken && len(canary) < shortestToken {
			return fmt.Errorf("detectors.canaries[%d]: %q is no absolute path, no host name, and too short for a token: at least %d bytes",
				i, canary, shortestToken)
		}
	}
	for i, dir := range c.Toolchains {
		if !strings.HasPrefix(dir, "/") || strings.Trim(dir, "/") == "" {
			return fmt.Errorf("detectors.toolchains[%d]: %q is not the absolute path of a directory", i, dir)
		}
	}
	return c.Baselines.validate()
}

// New makes every built-in detector, in the order in which they see an event.
func New(cfg *Config) ([]Detector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Policy.Allowed == nil || cfg.Policy.SecretAllowed == nil || cfg.Policy.Observing == nil {
		return nil, errNoPolicy
	}
	base := cfg.Usual
	if base == nil {
		base = NewBaselines(cfg)
	}
	return []Detector{
		newSecretRead(cfg),
		newOffPolicyConnect(cfg),
		newUnbackedExec(cfg),
		newWeakSandbox(cfg),
		newMassDestruction(cfg),
		newCanary(cfg),
		newResourceHijack(cfg),
		newMCPDrift(cfg),
		newOutlivingProcess(cfg),
		newBurst(cfg, base),
		newFirstSeen(cfg, base),
		newBeaconing(cfg, base),
		newBaselinesAgree(cfg, base), // after those that it compares
	}, nil
}
