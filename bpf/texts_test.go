// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"strings"
	"testing"
)

// allocationsOf is how many allocations decoding a record of a kind takes, once its texts have been seen: one for the
// record and one for what it tells, both of which the receiver keeps, and what else must be made for each.
func allocationsOf() map[string]float64 {
	return map[string]float64{
		"cgroup-cgroupgone":      3, // the path
		"cgroup-cgroupmade":      3,
		"file-fileopen":          2,
		"network-networkconnect": 2,
		"network-networkflow":    2,
		"process-exec":           9, // paths, arguments, variables
		"process-existing":       3, // the path
		"process-exit":           3, // what it used
		"process-fork":           2,
	}
}

func TestDecodeAllocations(t *testing.T) {
	d, records := testDecoder(), recorded(t, "")
	for name, want := range allocationsOf() {
		data, found := records[name]
		if !found {
			t.Errorf("there is no record %s", name)
			continue
		}
		got := testing.AllocsPerRun(100, func() {
			if _, err := d.decode(data); err != nil {
				t.Fatal(err)
			}
		})
		if got != want {
			t.Errorf("decoding %s takes %.0f allocations, want %.0f", name, got, want)
		}
	}
}

func TestTexts(t *testing.T) {
	var kept texts
	for i := range 3 * textsKept {
		want := fmt.Sprintf("/path/number/%d", i)
		if got := kept.of([]byte(want)); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	if len(kept.kept) != textsKept {
		t.Errorf("%d texts are kept, want %d", len(kept.kept), textsKept)
	}
	b := []byte("/changed/later")
	first := kept.of(b)
	copy(b, "/CHANGED")
	if second := kept.of(b); first != "/changed/later" || second != "/CHANGED/later" {
		t.Errorf("got %q and %q: a text changed with the bytes that it was made of", first, second)
	}
	if long := strings.Repeat("x", textsBytes+1); kept.of([]byte(long)) != long || kept.of(nil) != "" {
		t.Error("a long text, or none, is another one")
	}
}
