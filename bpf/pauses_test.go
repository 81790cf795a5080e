// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"testing"
	"time"
)

func TestPauses(t *testing.T) {
	asked := 0
	p := newPauses(idleInterval, 30*time.Second, func() error { asked++; return nil })
	for i, look := range []struct {
		found int
		want  time.Duration
		asked int
	}{
		{0, pollInterval, 1},
		{0, idleInterval, 2},
		{0, idleInterval, 3},
		{5, pollInterval, 3},
		{1, pollInterval, 3},
		{0, pollInterval, 4},
		{1, pollInterval, 4},
		{0, pollInterval, 5},
		{0, idleInterval, 6},
	} {
		got, err := p.next(look.found)
		if got != look.want || err != nil || asked != look.asked {
			t.Errorf("look %d: it waits %v (%v) and has asked %d times, want %v and %d", i, got, err, asked, look.want, look.asked)
		}
	}
}

func TestPausesIdle(t *testing.T) {
	for flows, want := range map[time.Duration]time.Duration{
		0: idleInterval, time.Minute: idleInterval, 400 * time.Millisecond: 400 * time.Millisecond / flowSweeps, flowSweeps: pollInterval,
	} {
		if p := newPauses(idleInterval, flows, nil); p.idle != want {
			t.Errorf("connections are told every %v: it sleeps %v, want %v", flows, p.idle, want)
		}
	}
}

func TestPausesFail(t *testing.T) {
	failed := errors.New("no such map")
	p := newPauses(idleInterval, 0, func() error { return failed })
	if _, err := p.next(0); !errors.Is(err, failed) {
		t.Errorf("the error is %v", err)
	}
}
