// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// figuresVariable names the directory in which scenarios leave their figures, for writePage to put together.
const figuresVariable = "WATCHGLASS_RELIABILITY_FIGURES"

// report keeps the figures of a scenario, unless nobody wants them.
func report(t *testing.T, r result) {
	t.Helper()
	dir := os.Getenv(figuresVariable)
	if dir == "" {
		return
	}
	var losses []string
	for _, key := range slices.Sorted(maps.Keys(r.losses)) {
		losses = append(losses, fmt.Sprintf("`%s` %d", key, r.losses[key]))
	}
	if len(losses) == 0 {
		losses = []string{"none"}
	}
	verdict := "passed"
	if t.Failed() {
		verdict = "FAILED"
	}
	text := fmt.Sprintf("### %s: %s\n\n%s\n\n| | |\n|---|---|\n| events made | %d in %.0f s, %.0f a second |\n"+
		"| arrived | %d; %d came again |\n| accounted for as lost | %d: %s |\n| missing without account | %d |\n"+
		"| dropped in the kernel, and told | %d |\n| secrets read while it watched, and in a finding that arrived | %d, %d |\n"+
		"| secrets read while no collector ran, or too near to a kill to tell | %d |\n| canaries that arrived | %d |\n"+
		"| time until the destination had caught up | %.1f s |\n",
		r.name, verdict, r.what, r.produced, r.seconds, float64(r.produced)/r.seconds, r.delivered, r.repeated, r.lost,
		strings.Join(losses, ", "), int64(r.produced)-int64(r.delivered)-int64(r.lost), r.kernel, r.findings,
		r.findings-r.findingsMissing, r.findingsUnseen, r.canaries, r.drain)
	if r.told != nil {
		text += r.told.rows()
	}
	if err := os.WriteFile(filepath.Join(dir, r.name+".md"), []byte(text), 0o644); err != nil {
		t.Error(err)
	}
}

// row is a line of a scenario's figures.
type row struct{ what, value string }

// reportText is report for a scenario with figures of its own.
func reportText(t *testing.T, what string, rows []row) {
	t.Helper()
	dir := os.Getenv(figuresVariable)
	if dir == "" {
		return
	}
	name, verdict := strings.TrimPrefix(t.Name(), "Test"), "passed"
	if t.Failed() {
		verdict = "FAILED"
	}
	text := fmt.Sprintf("### %s: %s\n\n%s\n\n| | |\n|---|---|\n", name, verdict, what)
	for _, r := range rows {
		text += fmt.Sprintf("| %s | %s |\n", r.what, r.value)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".md"), []byte(text), 0o644); err != nil {
		t.Error(err)
	}
}

// pageBegin is where what writePage writes begins; what stands before is other tests' and stays.
const pageBegin = "\n## The whole way, with real parts\n"

const pageHead = `
Written on %s, Linux %s, %d processors, by the %s form of the scenarios. The short form runs with ` + "`make test-e2e`" + `,
the long one is ` + "`make bench-reliability`" + `; [test/e2e/reliability](../test/e2e/reliability) is how.

A real workload in a sandbox opens 20,000 files a second and reads five secrets a second, later one every two seconds. A real ` + "`watchglass collect`" + `
keeps its events in its journal and sends them to a real OpenTelemetry Collector, which writes what arrives into a file. Then:

* every ` + "`watchglass.event.seq`" + ` that a start of the collector gave out (the journal's state says how many, also after a
  SIGKILL) must have arrived, or be in a loss event that arrived: what is missing is exactly what is accounted for;
* every secret that was read while a collector watched must be in a finding that arrived;
* what arrives twice has the same ` + "`log.record.uid`" + `.

Where nothing else is said the collectors pin nothing (` + "`kernel.pins`" + `): what the next start makes again from the kernel's ring gets other
numbers. CollectorKilledWithPins, as by default, goes by the workload's own numbers instead.

A clock that jumps by hours, back and forth, is tried in a machine of its own: ` + "`make test-vm`" + ` (collector/clock_test.go). Not
among the scenarios is a crash of the machine, which takes what was not forced to the disk (` + "`journal.sync`" + `).

`

// writePage puts the page's part together from the figures in the directory.
func writePage(dir string) error {
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.md"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("write the page: there are no figures: %w", err)
	}
	path := filepath.Join(root, "docs", "reliability.md")
	before, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	var page strings.Builder
	kept, _, _ := strings.Cut(string(before), pageBegin)
	page.WriteString(kept + pageBegin)
	fmt.Fprintf(&page, pageHead, time.Now().UTC().Format(time.DateOnly), strings.TrimSpace(string(kernel)), runtime.NumCPU(), form())
	for i, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("write the page: %w", err)
		}
		if i > 0 {
			page.WriteString("\n")
		}
		page.Write(text)
	}
	return os.WriteFile(path, []byte(page.String()), 0o644)
}
