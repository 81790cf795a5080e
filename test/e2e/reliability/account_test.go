// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	logs "go.opentelemetry.io/proto/otlp/logs/v1"

	"github.com/watchglass/watchglass/test/e2e/backend"
)

// arrivals is what the backend got.
type arrivals struct {
	destination string
	// seen is the sequence numbers of each start of the collector, as bits.
	seen map[string][]uint64
	// records is how many came, repeated how many of them more than once.
	records, repeated uint64
	kinds             map[string]uint64
	// lost is the sums of the loss events, by stage, what and reason; kernel those before events have numbers.
	lost, kernel map[string]uint64
	// findings is the paths in findings; found is the findings' own ids by the log.record.uid of what told them.
	findings map[string]bool
	found    map[string]string
	// severe is those of them that are of medium severity at least.
	severe   map[string]bool
	canaries uint64
}

// read counts what arrived in the file of the backend that is exporters.otlp.
func read(t *testing.T, file string) *arrivals {
	t.Helper()
	return readOf(t, "otlp", file)
}

// readOf counts what arrived at a destination.
func readOf(t *testing.T, destination, file string) *arrivals {
	t.Helper()
	a := &arrivals{
		destination: destination,
		seen:        map[string][]uint64{}, kinds: map[string]uint64{}, lost: map[string]uint64{}, kernel: map[string]uint64{},
		findings: map[string]bool{}, found: map[string]string{}, severe: map[string]bool{},
	}
	if err := backend.Records(file, a.add); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *arrivals) add(resource map[string]string, record *logs.LogRecord) {
	attributes := backend.Attributes(record.GetAttributes())
	a.records++
	seq, err := strconv.ParseUint(attributes["watchglass.event.seq"], 10, 40)
	instance := resource["service.instance.id"]
	if err != nil || instance == "" || attributes["log.record.uid"] != fmt.Sprintf("%s-%d", instance, seq) {
		a.kinds["not identified"]++
		return
	}
	bits := a.seen[instance]
	for uint64(len(bits)) <= seq/64 {
		bits = append(bits, 0)
	}
	a.seen[instance] = bits
	if bits[seq/64]&(1<<(seq%64)) != 0 {
		a.repeated++
		return // nothing of it counts twice
	}
	bits[seq/64] |= 1 << (seq % 64)
	a.kinds[record.GetEventName()]++
	switch record.GetEventName() {
	case "watchglass.telemetry.loss":
		n, _ := strconv.ParseUint(attributes["watchglass.loss.count"], 10, 64)
		stage, lost, reason := attributes["watchglass.loss.stage"], attributes["watchglass.loss.kind"], attributes["watchglass.loss.reason"]
		key := strings.Join([]string{stage, lost, reason}, " ")
		switch {
		case stage == "ring" || stage == "decode":
			a.kernel[key] += n
		case lost == "journal" || lost == a.destination:
			a.lost[key] += n
		}
	case "watchglass.finding":
		if attributes["security_rule.name"] == "watchglass-canary" {
			a.canaries++
		} else {
			const medium = 13
			a.found[attributes["log.record.uid"]] = attributes["watchglass.finding.id"]
			a.severe[attributes["log.record.uid"]] = record.GetSeverityNumber() >= medium
		}
		for path := range strings.SplitSeq(attributes["watchglass.finding.objects"], "\n") {
			a.findings[path] = true
		}
	}
}

// count is how many numbers of a start arrived.
func (a *arrivals) count(instance string) (n uint64) {
	for _, word := range a.seen[instance] {
		for ; word != 0; word &= word - 1 {
			n++
		}
	}
	return n
}

// missing is the numbers that were given out and did not arrive, as ranges, at most so many of them.
func (a *arrivals) missing(instance string, produced uint64, limit int) []string {
	var ranges []string
	bits := a.seen[instance]
	has := func(seq uint64) bool { return seq/64 < uint64(len(bits)) && bits[seq/64]&(1<<(seq%64)) != 0 }
	for seq := uint64(1); seq <= produced && len(ranges) < limit; seq++ {
		if has(seq) {
			continue
		}
		first := seq
		for seq < produced && !has(seq+1) {
			seq++
		}
		ranges = append(ranges, fmt.Sprintf("%d-%d", first, seq))
	}
	return ranges
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// result is the figures of a scenario.
type result struct {
	name, what                                       string
	told                                             *told
	produced, delivered, lost, repeated, kernel      uint64
	findings, findingsMissing, findingsUnseen, kills int
	canaries                                         uint64
	seconds, drain                                   float64
	losses                                           map[string]uint64
}

// verify holds delivered and accounted for lost against produced, and what the workload did against the findings.
func verify(t *testing.T, n *node, w *workload, a *arrivals) result {
	t.Helper()
	r := result{name: strings.TrimPrefix(t.Name(), "Test"), repeated: a.repeated, lost: sum(a.lost), kernel: sum(a.kernel), losses: a.lost, kills: len(n.down), canaries: a.canaries}
	for _, instance := range slices.Sorted(maps.Keys(n.produced)) {
		produced, delivered := n.produced[instance], a.count(instance)
		r.produced += produced
		r.delivered += delivered
		if delivered > produced {
			t.Errorf("start %s made %d events, and %d arrived", instance, produced, delivered)
		}
		if missing := a.missing(instance, produced, 8); len(missing) > 0 {
			t.Logf("start %s: of %d events did not arrive: %s", instance, produced, strings.Join(missing, ", "))
		}
	}
	if len(a.seen) > len(n.produced) {
		t.Errorf("events of %d starts arrived, there were %d", len(a.seen), len(n.produced))
	}
	if missing := r.produced - r.delivered; missing != r.lost {
		t.Errorf("%d events were made, %d arrived, %d are missing, and %d are accounted for as lost: %v", r.produced, r.delivered, missing, r.lost, a.lost)
	}
	if n := a.kinds["not identified"]; n > 0 {
		t.Errorf("%d records have no identity", n)
	}
	r.checkFindings(t, n, w, a)
	t.Logf("%+v\nin the kernel: %v", r, a.kernel)
	return r
}

// checkFindings: every secret that was read while a collector watched is in a finding, unless the kernel had no
// room for that open, which it says.
func (r *result) checkFindings(t *testing.T, n *node, w *workload, a *arrivals) {
	t.Helper()
	// Whether it was seen is not known of what was read just before and while no collector was there: what is
	// in the ring when the collector is killed goes with it.
	const blind = 500 * time.Millisecond
	for path, at := range w.secrets {
		if slices.ContainsFunc(n.down, func(i interval) bool { return at.After(i.from.Add(-blind)) && at.Before(i.to.Add(blind)) }) {
			r.findingsUnseen++
			continue
		}
		r.findings++
		if !a.findings[path] {
			r.findingsMissing++
			if r.findingsMissing <= 5 {
				t.Logf("no finding of %s, read at %v", path, at)
			}
		}
	}
	if uint64(r.findingsMissing) > sum(a.kernel) {
		t.Errorf("of %d secrets that were read %d are in no finding, and the kernel dropped %d events", r.findings, r.findingsMissing, sum(a.kernel))
	}
	if r.findings == 0 {
		t.Error("no secret was read: the scenario tests nothing")
	}
}
