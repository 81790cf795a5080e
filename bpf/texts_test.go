// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"strings"
	"testing"
)

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
