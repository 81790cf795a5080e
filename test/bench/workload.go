// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// workload is something that is slower when it is watched, by as much as the page tells.
type workload struct {
	name, what string
	// command makes the process that does it, once; dir is an empty directory of its own.
	command func(ctx context.Context, dir string, quick bool) *exec.Cmd
}

func workloads() []workload {
	return []workload{
		{"exec storm", "2,000 times fork, exec of /bin/true, wait, one after the other", stormCommand("exec", 2000)},
		{"open storm", "200,000 times open and close of one of 100 files", stormCommand("open", 200_000)},
		{"null system calls", "5,000,000 times getppid", stormCommand("getppid", 5_000_000)},
		{"build", "go build of package event and all it imports, with an empty cache", buildCommand},
	}
}

func stormCommand(what string, count int) func(context.Context, string, bool) *exec.Cmd {
	return func(ctx context.Context, dir string, quick bool) *exec.Cmd {
		times := count
		if quick {
			times /= 10
		}
		return exec.CommandContext(ctx, "/proc/self/exe", "storm", what, strconv.Itoa(times), dir)
	}
}

func buildCommand(ctx context.Context, dir string, quick bool) *exec.Cmd {
	pkg := "./event"
	if quick {
		pkg = "errors"
	}
	cmd := exec.CommandContext(ctx, "go", "build", pkg)
	cmd.Env = append(os.Environ(), "GOCACHE="+dir, "GOFLAGS=")
	return cmd
}

// storm is the process of a storm: what, how often, and an empty directory.
func storm(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: bench storm exec|open|getppid COUNT DIRECTORY")
	}
	count, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("reading the count: %w", err)
	}
	switch args[0] {
	case "exec":
		return execStorm(count)
	case "open":
		return openStorm(count, args[2])
	case "getppid":
		for range count {
			syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0) //nolint:errcheck // it cannot fail
		}
		return nil
	default:
		return fmt.Errorf("no storm %q", args[0])
	}
}

func execStorm(count int) error {
	for range count {
		if err := exec.Command("/bin/true").Run(); err != nil {
			return fmt.Errorf("running /bin/true: %w", err)
		}
	}
	return nil
}

func openStorm(count int, dir string) error {
	var files [100]string
	for i := range files {
		files[i] = filepath.Join(dir, "file"+strconv.Itoa(i))
		if err := os.WriteFile(files[i], nil, 0o600); err != nil {
			return fmt.Errorf("making files: %w", err)
		}
	}
	for i := range count {
		fd, err := syscall.Open(files[i%len(files)], syscall.O_RDONLY, 0)
		if err != nil {
			return fmt.Errorf("opening a file: %w", err)
		}
		if err := syscall.Close(fd); err != nil {
			return fmt.Errorf("closing a file: %w", err)
		}
	}
	return nil
}
