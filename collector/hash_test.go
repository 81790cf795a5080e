// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/collector/digest"
	"github.com/watchglass/watchglass/event"
)

// TestHashes: the first exec of a program is followed by its sum, later ones have it, and what cannot be had has a reason.
func TestHashes(t *testing.T) {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		t.Fatal(err)
	}
	digester, err := digest.New(digest.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	source, exporter := newFakeSource(), &fakeExporter{name: "all"}
	p := newTestPipeline(t, Settings{Source: source, Digest: digester, Exporters: []ExporterSettings{{Exporter: exporter}}})
	stop := start(t, p)
	execs := func(inode uint64) *event.ProcessExec {
		return &event.ProcessExec{
			Executable: path, Inode: inode, Device: unix.Major(stat.Dev)<<20 | unix.Minor(stat.Dev),
			Changed: time.Unix(0, stat.Ctim.Nano()), Modified: time.Unix(0, stat.Mtim.Nano()),
		}
	}
	await := func(n int) (hashes []*event.ProcessHash) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && len(hashes) < n; time.Sleep(time.Millisecond) {
			hashes = nil
			for _, e := range exporter.got() {
				if h, ok := e.Payload.(*event.ProcessHash); ok {
					hashes = append(hashes, h)
				}
			}
		}
		return hashes
	}
	sum := sha256.Sum256(text)
	want := hex.EncodeToString(sum[:])
	self := uint32(os.Getpid())
	source.send(made(), record(self, execs(stat.Ino)))
	if got := await(1); len(got) != 1 || got[0].SHA256 != want || got[0].Executable != path {
		t.Fatalf("after the first exec: %+v, want %s", got, want)
	}
	source.send(record(self, execs(stat.Ino)), record(self, execs(stat.Ino+1)))
	got := await(2)
	if len(got) != 2 || got[1].SHA256 != "" || got[1].Missing != string(digest.ReasonGone) {
		t.Errorf("of another file: %+v", got)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	var sums []string
	for _, e := range exporter.got() {
		if x, ok := e.Payload.(*event.ProcessExec); ok {
			sums = append(sums, x.SHA256)
		}
	}
	if len(sums) != 3 || sums[0] != "" || sums[1] != want || sums[2] != "" {
		t.Errorf("execs have the sums %q", sums)
	}
}
