// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeInstall puts a program where npm would.
func fakeInstall(_ context.Context, pkg Package, dir string) error {
	bin := filepath.Join(dir, "node_modules", ".bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(bin, pkg.Command), []byte(pkg.Version), 0o755)
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestCacheInstallsOnce(t *testing.T) {
	var installs atomic.Int32
	cache := Cache{Dir: t.TempDir(), Install: func(ctx context.Context, pkg Package, dir string) error {
		installs.Add(1)
		return fakeInstall(ctx, pkg, dir)
	}}
	for range 2 {
		command, err := cache.Command(t.Context(), Codex())
		if err != nil {
			t.Fatal(err)
		}
		if content, err := os.ReadFile(command); err != nil || string(content) != Codex().Version {
			t.Fatalf("%s: %q, %v", command, content, err)
		}
	}
	if installs.Load() != 1 {
		t.Errorf("%d installations, want 1", installs.Load())
	}
}

// Installations at the same time must all end with the same whole agent, and leave nothing else.
func TestCacheConcurrently(t *testing.T) {
	const users = 4
	var together sync.WaitGroup
	together.Add(users)
	cache := Cache{Dir: t.TempDir(), Install: func(ctx context.Context, pkg Package, dir string) error {
		together.Done()
		together.Wait()
		return fakeInstall(ctx, pkg, dir)
	}}
	var done sync.WaitGroup
	for range users {
		done.Go(func() {
			if _, err := cache.Command(t.Context(), Codex()); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	if left := entries(t, cache.Dir); len(left) != 1 {
		t.Errorf("left in the cache: %v", left)
	}
}

func TestCacheAfterFailure(t *testing.T) {
	broken := errors.New("no network")
	cache := Cache{Dir: t.TempDir(), Install: func(context.Context, Package, string) error { return broken }}
	if _, err := cache.Command(t.Context(), Codex()); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	if left := entries(t, cache.Dir); len(left) != 0 {
		t.Errorf("left in the cache: %v", left)
	}
	cache.Install = fakeInstall
	if _, err := cache.Command(t.Context(), Codex()); err != nil {
		t.Error(err)
	}
}

// What a killed installation left is removed when it is old; one that may be under way is not touched.
func TestCacheSweeps(t *testing.T) {
	cache := Cache{Dir: t.TempDir(), Install: fakeInstall}
	old, fresh := filepath.Join(cache.Dir, "codex-1.partial-1"), filepath.Join(cache.Dir, "codex-1.partial-2")
	for _, dir := range []string{old, fresh} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	then := time.Now().Add(-2 * abandoned)
	if err := os.Chtimes(old, then, then); err != nil {
		t.Fatal(err)
	}
	if _, err := cache.Command(t.Context(), ClaudeCode()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old leftover is still there: %v", err)
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Errorf("the fresh directory is gone: %v", err)
	}
}
