// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// report keeps the figures of a scenario for docs/reliability.md: the page is put together by `make
// bench-reliability` from what the scenarios leave in its directory.
func report(t *testing.T, r result, what string) {
	t.Helper()
	dir := os.Getenv("WATCHGLASS_RELIABILITY_FIGURES")
	if dir == "" {
		return
	}
	var losses []string
	for _, key := range slices.Sorted(maps.Keys(r.losses)) {
		losses = append(losses, fmt.Sprintf("%s %d", key, r.losses[key]))
	}
	if len(losses) == 0 {
		losses = []string{"none"}
	}
	text := fmt.Sprintf("## %s\n\n%s\n\n| | |\n|---|---|\n| events made | %d in %.0f s: %.0f a second |\n| arrived | %d (%d of them more than once) |\n"+
		"| accounted for as lost | %d: %s |\n| missing without account | %d |\n| dropped in the kernel, and told | %d |\n"+
		"| secrets read while it watched, in findings | %d of %d |\n| time to catch up | %.1f s |\n",
		r.name, what, r.produced, r.seconds, float64(r.produced)/r.seconds, r.delivered, r.repeated, r.lost, strings.Join(losses, ", "),
		int64(r.produced)-int64(r.delivered)-int64(r.lost), r.kernel, r.findings-r.findingsMissing, r.findings, r.drain)
	if err := os.WriteFile(filepath.Join(dir, r.name+".md"), []byte(text), 0o644); err != nil {
		t.Error(err)
	}
}
