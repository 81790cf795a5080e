// SPDX-License-Identifier: Apache-2.0

package bpf

import "hash/maphash"

const (
	// textsKept is how many texts are kept; a power of two.
	textsKept = 8192
	// textsBytes bounds one of them: longer ones are rare, and made each time.
	textsBytes = 256
)

// texts makes strings of bytes that come again and again, such as paths and names of commands: of those that were
// made lately, without an allocation. A text that meets another one's place takes it, so what is kept is bounded, to
// textsKept times textsBytes, whoever chooses the texts. The strings are anybody's to keep. The zero value is ready;
// one goroutine may use it.
type texts struct {
	// none is true where nothing is kept.
	none bool
	seed maphash.Seed
	kept []string
}

// of is the string of some bytes.
func (t *texts) of(b []byte) string {
	if len(b) == 0 || len(b) > textsBytes || t.none {
		return string(b)
	}
	if t.kept == nil {
		// A seed of its own, so that nobody can choose texts that meet.
		t.seed, t.kept = maphash.MakeSeed(), make([]string, textsKept)
	}
	at := &t.kept[maphash.Bytes(t.seed, b)&(textsKept-1)]
	if *at != string(b) { // compares, does not allocate
		*at = string(b)
	}
	return *at
}
