// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"container/list"
	"sync"
	"time"
)

// limits is how much each sandbox may say, and how many of its connections are served at once.
type limits struct {
	rate, burst float64

	mu      sync.Mutex
	open    int
	buckets map[uint64]*bucket
	order   *list.List // of *bucket, silent longest first
}

type bucket struct {
	sandbox uint64
	tokens  float64
	last    time.Time
	open    int
	element *list.Element
}

func newLimits(rate, burst int) *limits {
	return &limits{rate: float64(rate), burst: float64(burst), buckets: map[uint64]*bucket{}, order: list.New()}
}

// take takes room for one statement of the sandbox, false when there is none. What is taken is to be given back.
func (l *limits) take(sandbox uint64, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucket(sandbox, now)
	if b == nil {
		return false
	}
	b.tokens = min(l.burst, b.tokens+l.rate*max(0, now.Sub(b.last).Seconds()))
	b.last = now
	if b.tokens < 1 || b.open >= maxPerSandbox || l.open >= maxOpen {
		return false
	}
	b.tokens--
	b.open++
	l.open++
	return true
}

// bucket is the sandbox's, made when it is missing; nil when all that are remembered are being served.
func (l *limits) bucket(sandbox uint64, now time.Time) *bucket {
	if b := l.buckets[sandbox]; b != nil {
		l.order.MoveToBack(b.element)
		return b
	}
	if len(l.buckets) >= maxLimits {
		// At most maxOpen of them are being served, so the search is short.
		for e := l.order.Front(); ; e = e.Next() {
			if e == nil {
				return nil
			}
			if b, ok := e.Value.(*bucket); ok && b.open == 0 {
				l.order.Remove(e)
				delete(l.buckets, b.sandbox)
				break
			}
		}
	}
	b := &bucket{sandbox: sandbox, tokens: l.burst, last: now}
	b.element = l.order.PushBack(b)
	l.buckets[sandbox] = b
	return b
}

func (l *limits) giveBack(sandbox uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	l.buckets[sandbox].open--
}
