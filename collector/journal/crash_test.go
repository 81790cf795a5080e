// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The variables by which the test's own program becomes the collector that is killed.
const (
	crashDir      = "WATCHGLASS_TEST_CRASH_DIR"
	crashInstance = "WATCHGLASS_TEST_CRASH_INSTANCE"
)

// crashLimits are small, so that a kill mostly falls between two commits.
var crashLimits = Limits{Events: 64, Bytes: 1 << 20}

// crashConfig has room for all.
func crashConfig(dir string) Config {
	cfg := config(dir)
	cfg.MaxBytes, cfg.PriorityBytes = 1<<30, 1<<30
	return cfg
}

// TestCrashChild is the collector that is killed: it appends without end, says on standard output which
// event it made last, and delivers into a file.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("this is run by TestSIGKILL")
	}
	instance := os.Getenv(crashInstance)
	j, err := Open(crashConfig(dir), Settings{Instance: instance, Logger: discard()})
	if err != nil {
		t.Fatal(err)
	}
	c := cursor(t, j, "siem")
	delivered, err := os.OpenFile(filepath.Join(filepath.Dir(dir), "delivered"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			batch, err := c.Next(t.Context(), crashLimits)
			if err != nil {
				return
			}
			var text bytes.Buffer
			for i := range batch {
				fmt.Fprintf(&text, "%s-%d\n", batch[i].Instance, batch[i].Seq)
			}
			_, _ = delivered.Write(text.Bytes())
			_ = c.Commit()
		}
	}()
	out := bufio.NewWriter(os.Stdout)
	for seq := uint64(1); ; {
		n := seq + 1 + rand.Uint64N(150)
		events := makeAll(instance, seq, n)
		j.Produced(n - 1)
		fmt.Fprintf(out, "made %d\n", n-1)
		_ = out.Flush()
		j.Append(events, 0)
		seq = n
	}
}

// TestSIGKILL kills a collector at work again and again. After each time everything that it made is in the
// journal or is counted as lost, and the destination gets everything that is in the journal.
func TestSIGKILL(t *testing.T) {
	const kills, largest = 20, 151
	dir := filepath.Join(t.TempDir(), "journal")
	produced := map[string]uint64{}
	lost := map[string]uint64{}
	for i := range kills {
		instance := fmt.Sprintf("run%d", i)
		produced[instance] = runAndKill(t, dir, instance)
		j, err := Open(crashConfig(dir), settings(t, instance+"x"))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range j.Losses() {
			if l.Reason != reasonCrash {
				t.Errorf("%s: %+v", instance, l)
			}
			lost[instance] += l.Count
			j.Told(l.Count)
		}
		shut(t, j)
	}
	j := open(t, crashConfig(dir), "end")
	seen := drain(t, cursor(t, j, "siem"), few)
	if l := j.Losses(); len(l) > 0 {
		t.Errorf("losses at the end: %+v", l)
	}
	shut(t, j)
	if report := verified(t, dir, proof(t, dir)); !report.Good() {
		t.Errorf("it does not verify: %v %v", report.Lanes[0].Fault, report.Lanes[1].Fault)
	}
	for uid := range strings.FieldsSeq(readFile(t, filepath.Join(filepath.Dir(dir), "delivered"))) {
		seen[uid]++
	}
	stored, newest := map[string]uint64{}, map[string]uint64{}
	for uid := range seen {
		instance, digits, _ := strings.Cut(uid, "-")
		seq, err := strconv.ParseUint(digits, 10, 64)
		must(t, err)
		stored[instance]++
		newest[instance] = max(newest[instance], seq)
	}
	for instance, made := range produced {
		// What was told is the last group that was made, or the last but one.
		if sum := stored[instance] + lost[instance]; sum < made || sum > made+largest {
			t.Errorf("%s made %d: %d delivered, %d lost", instance, made, stored[instance], lost[instance])
		}
		// Of the last group the findings may be there alone, since they are written first. Before it all is.
		for seq := uint64(1); seq+largest < newest[instance]; seq++ {
			if seen[fmt.Sprintf("%s-%d", instance, seq)] == 0 {
				t.Errorf("%s-%d is gone", instance, seq)
			}
		}
	}
	t.Logf("%d events delivered over %d kills, lost by start: %v", len(seen), kills, lost)
}

// runAndKill runs the child for a while and returns the last event that it said it made.
func runAndKill(t *testing.T, dir, instance string) uint64 {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), crashDir+"="+dir, crashInstance+"="+instance)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	killed := make(chan struct{})
	var last uint64
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		if last == 0 { // from its first event on
			time.AfterFunc(rand.N(120*time.Millisecond), func() {
				_ = cmd.Process.Kill()
				close(killed)
			})
		}
		if n, err := strconv.ParseUint(strings.TrimPrefix(scanner.Text(), "made "), 10, 64); err == nil {
			last = n
		}
	}
	if last == 0 {
		_ = cmd.Process.Kill()
		t.Fatalf("%s made nothing: %v", instance, cmd.Wait())
	}
	<-killed
	_ = cmd.Wait()
	return last
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}
