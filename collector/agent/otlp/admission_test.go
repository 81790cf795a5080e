// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// slots is how many nobody decodes in, and for how many sandboxes somebody waits.
func (a *admission) slots() (free, turns int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.free, len(a.turns)
}

// TestTurns lets many of one sandbox wait, then one of another: the other's turn comes next but one.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		a := newAdmission(&cfg, 1)
		if err := a.slot(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []uint64
		wait := func(sandbox uint64) {
			go func() {
				if a.slot(t.Context(), sandbox) == nil {
					mu.Lock()
					order = append(order, sandbox)
					mu.Unlock()
				}
			}()
			synctest.Wait()
		}
		for range 5 {
			wait(1)
		}
		wait(2)
		wait(3)
		for range 7 {
			a.release()
			synctest.Wait()
		}
		want := []uint64{1, 2, 3, 1, 1, 1, 1}
		for i := range want {
			if len(order) != len(want) || order[i] != want[i] {
				t.Fatalf("%v, want %v", order, want)
			}
		}
		a.release()
		if free, turns := a.slots(); free != 1 || turns != 0 {
			t.Errorf("%d free, %d turns", free, turns)
		}
	})
}

// TestWithdraw has some give up waiting, also at the moment their turn comes.
func TestWithdraw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		a := newAdmission(&cfg, 1)
		_ = a.slot(t.Context(), 1)
		for sandbox := range uint64(4) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(sandbox+1)*time.Second)
			defer cancel()
			go func() {
				if a.slot(ctx, sandbox) == nil {
					a.release()
				}
			}()
		}
		synctest.Wait()
		time.Sleep(2500 * time.Millisecond)
		a.release()
		time.Sleep(5 * time.Second)
		if free, turns := a.slots(); free != 1 || turns != 0 {
			t.Errorf("%d free, %d turns", free, turns)
		}
	})
}

func TestBudget(t *testing.T) {
	cfg := DefaultConfig()
	cfg.BytesPerSecond, cfg.BurstBytes, cfg.SandboxRequests, cfg.Requests = 1000, 10_000, 2, 3
	a := newAdmission(&cfg, 1)
	now := time.Unix(1000, 0)
	enter := func(sandbox uint64, want string) {
		t.Helper()
		got := ""
		if refused := a.enter(sandbox, now); refused != nil {
			got = refused.reason
		}
		if got != want {
			t.Errorf("sandbox %d: %q, want %q", sandbox, got, want)
		}
	}
	enter(1, "")
	enter(1, "")
	enter(1, reasonBusy)
	enter(2, "")
	enter(3, reasonBusy) // as many as may be in all
	a.leave(1)
	enter(3, "")
	a.leave(3)
	a.leave(1)
	a.charge(1, 10_000, now)
	enter(1, reasonRate)
	now = now.Add(2 * time.Second)
	enter(1, "")
	now = now.Add(-time.Hour) // a clock that is set back gives nothing and takes nothing
	enter(1, "")
	for sandbox := range uint64(2 * maxShares) {
		a.charge(100+sandbox, 1, now)
	}
	if len(a.shares) > maxShares {
		t.Errorf("%d shares", len(a.shares))
	}
	if a.shares[1] == nil {
		t.Error("one that is being served was forgotten")
	}
}
