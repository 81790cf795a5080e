// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/collector/sandbox"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

// The load under which the way of a finding is timed: so many events a second, and a secret read now and then.
const (
	loadVariable  = "WATCHGLASS_TEST_LOAD"
	loadPerSecond = 20_000
	loadSecrets   = 200
	secretEvery   = 100 * time.Millisecond
)

// runLoad is the process that makes the load, in the sandbox: it makes and removes files, two events each, and reads
// the secrets in the directory, one after the other.
func runLoad(dir string) int {
	const pause = 5 * time.Millisecond
	pairs := int(loadPerSecond * pause / time.Second / 2)
	began := time.Now()
	for n, secret := 0, 0; secret < loadSecrets; {
		for range pairs {
			name := filepath.Join(dir, "file"+strconv.Itoa(n))
			n++
			fd, err := syscall.Open(name, syscall.O_CREAT|syscall.O_WRONLY, 0o600)
			if err == nil {
				err = syscall.Close(fd)
			}
			if err == nil {
				err = syscall.Unlink(name)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		if time.Since(began) >= time.Duration(secret+1)*secretEvery {
			if _, err := os.ReadFile(filepath.Join(dir, "secrets", strconv.Itoa(secret))); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			secret++
		}
		// By the clock, so that what one round took too long the next does not wait for.
		time.Sleep(time.Until(began.Add(time.Duration(n/pairs) * pause)))
	}
	return 0
}

// stopwatch is an exporter that times findings when it is given them.
type stopwatch struct {
	mu     sync.Mutex
	events int
	lost   uint64
	took   []time.Duration
}

func (*stopwatch) Name() string { return "stopwatch" }

func (s *stopwatch) Export(_ context.Context, batch []*event.Event) error {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range batch {
		s.events++
		switch p := e.Payload.(type) {
		case *event.Finding:
			if p.Rule.ID == "secret-read" {
				s.took = append(s.took, now.Sub(e.Time))
			}
		case *event.Loss:
			s.lost += p.Count
		}
	}
	return nil
}

func (*stopwatch) Shutdown(context.Context) error { return nil }

// BenchmarkKernelFinding is the time from the event in the kernel until an exporter has the finding, with all
// detectors, under a load of 20,000 events a second of one sandbox.
func BenchmarkKernelFinding(b *testing.B) {
	testenv.RequireRoot(b)
	testenv.RequireEBPF(b)
	for b.Loop() {
		dir, err := os.MkdirTemp("/dev/shm", "watchglass-load-")
		if err != nil {
			b.Fatal(err)
		}
		s, took := measureFindings(b, dir)
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
		if len(s.took) < loadSecrets {
			b.Errorf("%d findings of %d secrets, %d events lost", len(s.took), loadSecrets, s.lost)
			continue
		}
		slices.Sort(s.took)
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		b.ReportMetric(ms(s.took[len(s.took)/2]), "p50-ms")
		b.ReportMetric(ms(s.took[len(s.took)*99/100]), "p99-ms")
		b.ReportMetric(ms(s.took[len(s.took)-1]), "max-ms")
		b.ReportMetric(float64(s.events)/took.Seconds(), "events/s")
		b.ReportMetric(float64(s.lost), "lost")
		b.ReportMetric(float64(len(s.took)), "findings")
	}
}

// measureFindings runs the load once, under everything that `watchglass collect` is but the journal.
func measureFindings(b *testing.B, dir string) (*stopwatch, time.Duration) {
	b.Helper()
	if err := os.Mkdir(filepath.Join(dir, "secrets"), 0o700); err != nil {
		b.Fatal(err)
	}
	for i := range loadSecrets {
		if err := os.WriteFile(filepath.Join(dir, "secrets", strconv.Itoa(i)), []byte("secret"), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	cfg, err := defaultConfig()
	if err != nil {
		b.Fatal(err)
	}
	cfg.Policy.Files.Secrets = []string{dir + "/secrets/"}
	mount, err := sandbox.FindMount()
	if err != nil {
		b.Fatal(err)
	}
	leaf, err := sandbox.NewLeaf(mount, "load-"+strconv.Itoa(os.Getpid()))
	if err != nil {
		b.Fatal(err)
	}
	s := &stopwatch{}
	w, err := openWatch(watchSettings{
		config: cfg, mount: mount, log: slog.New(slog.DiscardHandler), instance: collector.NewInstance(),
		outputs: []collector.ExporterSettings{{Exporter: s}},
	})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := w.registry.Add(event.Sandbox{Name: "load", Runtime: sandbox.RuntimeRun, Cgroup: leaf.Path, CgroupID: leaf.ID}); err != nil {
		b.Fatal(err)
	}
	if err := w.start(); err != nil {
		b.Fatal(err)
	}
	load := exec.CommandContext(b.Context(), "/proc/self/exe")
	load.Env = append(os.Environ(), loadVariable+"="+dir)
	load.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: leaf.FD()}
	began := time.Now()
	if out, err := load.CombinedOutput(); err != nil {
		b.Errorf("the load: %v: %s", err, out)
	}
	took := time.Since(began)
	stopping, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := leaf.Remove(stopping); err != nil {
		b.Error(err)
	}
	if err := errors.Join(w.stop(stopping), w.close()); err != nil {
		b.Error(err)
	}
	return s, took
}
