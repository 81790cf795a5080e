// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"sync"
	"time"
)

// maxShares bounds the sandboxes whose rates are remembered.
const maxShares = 4096

// admission decides who is served, and when. Each sandbox has a budget of bytes, a few requests and connections
// at once, and its turn: whoever waits to be decoded waits for one request of each other sandbox, not for all
// that a flooding one has sent.
type admission struct {
	rate, burst                       float64
	perSandbox, all                   int
	connectionsPerSandbox, allowedAll int

	mu          sync.Mutex
	requests    int
	connections int
	free        int // slots in which nobody decodes
	shares      map[uint64]*share
	turns       []*share // those with somebody waiting, the next first
}

// share is what one sandbox uses.
type share struct {
	sandbox               uint64
	tokens                float64
	last                  time.Time
	requests, connections int
	waiting               []chan struct{}
}

func (s *share) idle() bool { return s.requests == 0 && s.connections == 0 }

func newAdmission(cfg *Config, slots int) *admission {
	return &admission{
		rate: float64(cfg.BytesPerSecond), burst: float64(cfg.BurstBytes), perSandbox: cfg.SandboxRequests, all: cfg.Requests,
		connectionsPerSandbox: cfg.SandboxConnections, allowedAll: cfg.Connections, free: slots, shares: map[uint64]*share{},
	}
}

// share is the sandbox's, made when it is missing. mu must be held.
func (a *admission) share(sandbox uint64, now time.Time) *share {
	s := a.shares[sandbox]
	if s == nil {
		if len(a.shares) >= maxShares {
			a.forget()
		}
		s = &share{sandbox: sandbox, tokens: a.burst, last: now}
		a.shares[sandbox] = s
	}
	s.tokens = min(a.burst, s.tokens+a.rate*max(0, now.Sub(s.last).Seconds()))
	s.last = now
	return s
}

// forget makes room: the share that was used longest ago goes. mu must be held.
func (a *admission) forget() {
	var oldest *share
	for _, s := range a.shares {
		if s.idle() && (oldest == nil || s.last.Before(oldest.last)) {
			oldest = s
		}
	}
	if oldest != nil {
		delete(a.shares, oldest.sandbox)
	}
}

// connect takes room for a connection, false when there is none. What is taken is to be given back.
func (a *admission) connect(sandbox uint64, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.share(sandbox, now)
	if s.connections >= a.connectionsPerSandbox {
		return false
	}
	s.connections++
	return true
}

func (a *admission) disconnect(sandbox uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.shares[sandbox]; s != nil {
		s.connections--
	}
}

// accept takes room for a connection of nobody knows whom yet, false when there is none.
func (a *admission) accept() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.connections >= a.allowedAll {
		return false
	}
	a.connections++
	return true
}

func (a *admission) hangUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.connections--
}

// enter takes room for a request: nil, or why there is none. What is taken is to be given back with leave.
func (a *admission) enter(sandbox uint64, now time.Time) *refusal {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.share(sandbox, now)
	switch {
	case s.tokens <= 0:
		wait := time.Duration((1 - s.tokens) / a.rate * float64(time.Second))
		return overloaded(reasonRate, "this sandbox sends more than it may", wait)
	case s.requests >= a.perSandbox:
		return overloaded(reasonBusy, "this sandbox has as many requests at once as it may", time.Second)
	case a.requests >= a.all:
		return overloaded(reasonBusy, "as many requests at once as may be", time.Second)
	}
	s.requests++
	a.requests++
	s.tokens -= requestCost
	return nil
}

func (a *admission) leave(sandbox uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests--
	if s := a.shares[sandbox]; s != nil {
		s.requests--
	}
}

// charge takes what a request costs from its sandbox's budget, which may become a debt.
func (a *admission) charge(sandbox uint64, cost int, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.share(sandbox, now).tokens -= float64(cost)
}

// slot waits for the sandbox's turn to be decoded. It is to be given back with release, if the error is nil.
func (a *admission) slot(ctx context.Context, sandbox uint64) error {
	a.mu.Lock()
	if a.free > 0 {
		a.free--
		a.mu.Unlock()
		return nil
	}
	s := a.share(sandbox, time.Now())
	turn := make(chan struct{})
	if len(s.waiting) == 0 {
		a.turns = append(a.turns, s)
	}
	s.waiting = append(s.waiting, turn)
	a.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.withdraw(s, turn) {
		a.next() // it was given meanwhile
	}
	return context.Cause(ctx)
}

// withdraw takes back a wait; false when its turn has come. mu must be held.
func (a *admission) withdraw(s *share, turn chan struct{}) bool {
	for i, w := range s.waiting {
		if w != turn {
			continue
		}
		s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
		if len(s.waiting) == 0 {
			for j, other := range a.turns {
				if other == s {
					a.turns = append(a.turns[:j], a.turns[j+1:]...)
					break
				}
			}
		}
		return true
	}
	return false
}

// release gives a slot to whose turn it is.
func (a *admission) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next()
}

func (a *admission) next() {
	if len(a.turns) == 0 {
		a.free++
		return
	}
	s := a.turns[0]
	a.turns = a.turns[1:]
	close(s.waiting[0])
	if s.waiting = s.waiting[1:]; len(s.waiting) > 0 {
		a.turns = append(a.turns, s)
	}
}

// numbers is how many connections and requests there are.
func (a *admission) numbers() (connections, requests int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.connections, a.requests
}
