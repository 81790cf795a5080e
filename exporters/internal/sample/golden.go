// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Golden holds got to the contents of a file, which it writes first when update is true.
func Golden(t *testing.T, path string, got []byte, update bool) {
	t.Helper()
	if update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (rewrite with -update):\n%s", path, diff)
	}
}
