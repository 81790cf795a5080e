// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAtNice: the thread has the nice value while it runs, lives on, since what it started may ask to die with it, and has its own
// value back where that is allowed.
func TestAtNice(t *testing.T) {
	own, err := niceOf(0)
	if err != nil {
		t.Fatal(err)
	}
	var thread, during int
	atNice(own+3, func() {
		thread = unix.Gettid()
		during, err = niceOf(0)
	})
	if err != nil || during != own+3 {
		t.Errorf("the nice value is %d (%v), want %d", during, err, own+3)
	}
	// A thread that ends does so in this time.
	time.Sleep(200 * time.Millisecond)
	if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", thread)); err != nil {
		t.Fatalf("the thread has ended: %v", err)
	}
	if after, err := niceOf(thread); os.Geteuid() == 0 && (err != nil || after != own) {
		t.Errorf("afterwards the nice value is %d (%v), want %d", after, err, own)
	}
}
