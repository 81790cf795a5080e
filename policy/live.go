// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/watchglass/watchglass/event"
)

// Config is the policy as users write it.
type Config struct {
	Files   FilesConfig   `yaml:"files"`
	Network NetworkConfig `yaml:"network"`
}

// Validate says what is wrong with the configuration, and names the entry.
func (c *Config) Validate() error {
	_, err := New(c)
	return err
}

// Policy is a compiled configuration. It is immutable.
type Policy struct {
	Files   *Files
	Network *Network
}

// New compiles a configuration.
func New(cfg *Config) (*Policy, error) {
	files, err := NewFiles(&cfg.Files)
	if err != nil {
		return nil, fmt.Errorf("policy.%w", err)
	}
	network, err := NewNetwork(&cfg.Network)
	if err != nil {
		return nil, fmt.Errorf("policy.%w", err)
	}
	return &Policy{Files: files, Network: network}, nil
}

// Live is the policy in force. A reload replaces it as a whole, between two questions: whoever
// asks sees either the old policy or the new one. Its methods may be called from any goroutine.
type Live struct{ current atomic.Pointer[Policy] }

// NewLive starts with p.
func NewLive(p *Policy) *Live {
	l := &Live{}
	l.current.Store(p)
	return l
}

// Swap puts p in force.
func (l *Live) Swap(p *Policy) { l.current.Store(p) }

// Class is Files.Class of the policy in force.
func (l *Live) Class(path string) event.FileClass { return l.current.Load().Files.Class(path) }

// SecretAllowed is Files.SecretAllowed of the policy in force.
func (l *Live) SecretAllowed(path, executable string) bool {
	return l.current.Load().Files.SecretAllowed(path, executable)
}

// Allowed is Network.Allowed of the policy in force.
func (l *Live) Allowed(transport event.Transport, peer netip.AddrPort) bool {
	return l.current.Load().Network.Allowed(transport, peer)
}

// Observing says that there is no allow-list of destinations: nothing is a finding yet.
func (l *Live) Observing() bool { return l.current.Load().Network.Observing() }
