// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	logs "go.opentelemetry.io/proto/otlp/logs/v1"

	"github.com/watchglass/watchglass/test/e2e/backend"
)

// numberedLoad is the workload of which each open and each execution carries its number: "numbered DIRECTORY RATE".
const numberedLoad = "numbered"

const (
	// numberedRate is how many files it makes a second: each is a file of its own.
	numberedRate = 2000
	// execInterval is how often it executes a program.
	execInterval = 20 * time.Millisecond
	// perDirectory is how many files go into a directory.
	perDirectory = 1000
)

// numberedPath is the file that the workload makes at a number.
func numberedPath(dir string, n int) string {
	return filepath.Join(dir, "numbered", strconv.Itoa(n/perDirectory), strconv.Itoa(n))
}

// runNumbered makes files and executes a program until it is told to end, and says at the end how many of each.
func runNumbered(what string) error {
	var dir string
	var rate int
	if _, err := fmt.Sscan(what, &dir, &rate); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	start, opens, execs := time.Now(), 0, 0
	for {
		select {
		case <-ended:
			fmt.Printf("numbered %d %d\n", opens, execs)
			return nil
		case <-time.After(2 * time.Millisecond):
		}
		due := int(time.Since(start).Seconds() * float64(rate))
		if behind := due - opens - rate/10; behind > 0 { // as load does
			start = start.Add(time.Duration(float64(behind) / float64(rate) * float64(time.Second)))
			due -= behind
		}
		for ; opens < due; opens++ {
			path := numberedPath(dir, opens)
			if opens%perDirectory == 0 {
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					return fmt.Errorf("make a directory: %w", err)
				}
			}
			fd, err := syscall.Open(path, syscall.O_CREAT|syscall.O_WRONLY, 0o600)
			if err != nil {
				return fmt.Errorf("make a file: %w", err)
			}
			if err := syscall.Close(fd); err != nil {
				return fmt.Errorf("close a file: %w", err)
			}
		}
		if time.Since(start) > time.Duration(execs)*execInterval {
			if err := exec.Command("/bin/true", numberedArgument(execs)).Run(); err != nil {
				return fmt.Errorf("execute a program: %w", err)
			}
			execs++
		}
	}
}

func numberedArgument(n int) string { return "number-" + strconv.Itoa(n) }

// numbers is what arrived of a numbered workload: the log.record.uid by number, and what the kernel and the journal
// say that was lost.
type numbers struct {
	opens, execs map[int]string
	// twice is the numbers that came with two uids: two events of one thing.
	twice []string
	// again is how many came more than once, with the same uid.
	again int
	// lostOpens and lostExecs is what is accounted for as lost of either, lostAny of what is not known.
	lostOpens, lostExecs, lostAny uint64
	losses                        map[string]uint64
}

func readNumbers(t *testing.T, file, dir string) *numbers {
	t.Helper()
	n := &numbers{opens: map[int]string{}, execs: map[int]string{}, losses: map[string]uint64{}}
	seen := map[string]bool{}
	below := filepath.Join(dir, "numbered") + "/"
	note := func(of map[int]string, what, digits, uid string) {
		number, err := strconv.Atoi(digits)
		if err != nil {
			return
		}
		switch before, ok := of[number]; {
		case !ok:
			of[number] = uid
		case before == uid:
			n.again++
		default:
			n.twice = append(n.twice, fmt.Sprintf("%s %d as %s and %s", what, number, before, uid))
		}
	}
	err := backend.Records(file, func(_ map[string]string, record *logs.LogRecord) {
		a := backend.Attributes(record.GetAttributes())
		uid := a["log.record.uid"]
		switch record.GetEventName() {
		case "watchglass.file.open":
			if rest, ok := strings.CutPrefix(a["file.path"], below); ok {
				note(n.opens, "open", rest[strings.LastIndexByte(rest, '/')+1:], uid)
			}
		case "watchglass.process.exec":
			for arg := range strings.SplitSeq(a["process.command_args"], "\n") {
				if digits, ok := strings.CutPrefix(arg, "number-"); ok {
					note(n.execs, "execution", digits, uid)
				}
			}
		case "watchglass.telemetry.loss":
			if seen[uid] {
				return
			}
			seen[uid] = true
			n.lose(a)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// lose takes a loss into account.
func (n *numbers) lose(a map[string]string) {
	count, _ := strconv.ParseUint(a["watchglass.loss.count"], 10, 64)
	kind := a["watchglass.loss.kind"]
	n.losses[strings.Join([]string{a["watchglass.loss.stage"], kind, a["watchglass.loss.reason"]}, " ")] += count
	switch kind {
	case "watchglass.file.open":
		// Repeats of opens are of files that are not watched; of these, every open is told.
		if a["watchglass.loss.reason"] != "restart" {
			n.lostOpens += count
		}
	case "watchglass.process.exec":
		n.lostExecs += count
	case "journal", "otlp":
		n.lostAny += count
	}
}

// missing is how many of the numbers below made did not arrive, and the first of them.
func missing(of map[int]string, made int) (n uint64, first []int) {
	for i := range made {
		if _, ok := of[i]; !ok {
			if n++; len(first) < 8 {
				first = append(first, i)
			}
		}
	}
	return n, first
}

// TestCollectorKilledWithPins: the collector, as it is configured by default, is killed at random moments under load and
// started again. What the kernel saw meanwhile, and what the one before had not written, the next one tells: of every
// file that was made and every program that was executed, by the workload's own numbers, there is one event.
func TestCollectorKilledWithPins(t *testing.T) {
	s := newScene(t, nodeSettings{pins: true})
	t.Cleanup(func() { unload(t, s.node) })
	s.sink.start(t)
	s.node.start(t)
	s.began = time.Now()
	dir := filepath.Join(s.dir, "work")
	var opens, execs int
	load := &workload{}
	load.start(t, s.node.cgroup, fmt.Sprintf("%s %s %d", numberedLoad, dir, numberedRate), func(words []string) {
		if len(words) == 3 && words[0] == numberedLoad {
			opens, _ = strconv.Atoi(words[1])
			execs, _ = strconv.Atoi(words[2])
		}
	})
	for range s.scale.kills {
		time.Sleep(time.Second + rand.N(2*time.Second))
		s.node.kill(t)
		time.Sleep(rand.N(time.Second)) // nobody reads, and the kernel goes on to record
		s.node.start(t)
	}
	time.Sleep(time.Second)
	load.stop(t)
	s.took = time.Since(s.began)
	s.drain = s.node.drained(t, patience)
	s.node.stop(t)
	s.sink.collector.Stop()
	if opens == 0 || execs == 0 {
		t.Fatalf("the workload made %d files and executed %d programs", opens, execs)
	}
	n := readNumbers(t, s.sink.file, dir)
	missingOpens, firstOpens := missing(n.opens, opens)
	missingExecs, firstExecs := missing(n.execs, execs)
	if missingOpens > n.lostOpens+n.lostAny {
		t.Errorf("of %d files %d are in no event, %v first, and %v are lost", opens, missingOpens, firstOpens, n.losses)
	}
	if missingExecs > n.lostExecs+n.lostAny {
		t.Errorf("of %d executions %d are in no event, %v first, and %v are lost", execs, missingExecs, firstExecs, n.losses)
	}
	if len(n.twice) > 0 {
		t.Errorf("%d things are in two events each: %v", len(n.twice), n.twice[:min(8, len(n.twice))])
	}
	reportText(t, fmt.Sprintf("The collector, with `kernel.pins` as by default, is killed %d times at random moments under load, with SIGKILL, and started up to a "+
		"second later. The workload's own numbers are counted: of each file and each execution there is one event.", s.scale.kills), []row{
		{"files made, programs executed", fmt.Sprintf("%d, %d in %.0f s", opens, execs, s.took.Seconds())},
		{"in an event that arrived", fmt.Sprintf("%d, %d", uint64(opens)-missingOpens, uint64(execs)-missingExecs)},
		{"accounted for as lost", fmt.Sprintf("%d, %d", n.lostOpens, n.lostExecs) + fmt.Sprintf("; in the journal %d", n.lostAny)},
		{"missing without account", fmt.Sprint(beyond(missingOpens+missingExecs, n.lostOpens+n.lostExecs+n.lostAny))},
		{"in two events", strconv.Itoa(len(n.twice))},
		{"came again, as the same event", strconv.Itoa(n.again)},
		{"time until the destination had caught up", fmt.Sprintf("%.1f s", s.drain.Seconds())},
	})
	t.Logf("%d files, %d executions; %d and %d are in no event; losses: %v; %d came again", opens, execs, missingOpens, missingExecs, n.losses, n.again)
}

func beyond(n, of uint64) uint64 { return n - min(n, of) }

// unload removes what a collector that was killed left in the kernel.
func unload(t *testing.T, n *node) {
	t.Helper()
	output, err := exec.Command(n.stage.watchglass, "collect", "--unload", "--config", n.config).CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Errorf("unload: %v", err)
	}
	t.Logf("unload: %s", output)
}
