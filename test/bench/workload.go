// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// workload is something that is slower when it is watched, by as much as the page tells.
type workload struct {
	name, what string
	// command makes the process that does it, once; dir is an empty directory of its own.
	command func(ctx context.Context, dir string, quick bool) *exec.Cmd
}

func workloads() []workload {
	all := []workload{
		{"null system calls", "3,000,000 times getppid", stormCommand("getppid", 3_000_000)},
		{"fork and exec", "1,000 times fork, exec of /bin/true, wait, one after the other", stormCommand("exec", 1000)},
		{"open storm", "100,000 times open and close of one of 100 files", stormCommand("open", 100_000)},
		{
			"requests", "20,000 requests of 64 bytes to a server on the loopback and their answers, one after the other, both in one Go process",
			stormCommand("requests", 20_000),
		},
	}
	if hasRedis() {
		all = append(all, workload{
			"redis-benchmark", "50,000 GET by 50 clients, and the server's start and end; server and clients both run in the state",
			stormCommand("redis", 50_000),
		})
	}
	return append(all,
		workload{"go build", "go build of package encoding/json and all it imports, with an empty cache", buildCommand},
		workload{"git clone", "git clone of this repository from its folder, objects copied", cloneCommand},
		workload{"grep -r", "grep -r for a name that is not there in the sources of Go's standard library", grepCommand},
	)
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
	pkg := "encoding/json"
	if quick {
		pkg = "errors"
	}
	cmd := exec.CommandContext(ctx, "go", "build", pkg)
	cmd.Env = append(os.Environ(), "GOCACHE="+dir, "GOFLAGS=")
	return cmd
}

func cloneCommand(ctx context.Context, dir string, _ bool) *exec.Cmd {
	// Who owns the folder does not matter here: the copy is thrown away.
	return exec.CommandContext(ctx, "git", "-c", "safe.directory=*", "clone", "--quiet", "--no-hardlinks", ".", filepath.Join(dir, "clone"))
}

func grepCommand(ctx context.Context, _ string, quick bool) *exec.Cmd {
	folder := "/src"
	if quick {
		folder = "/src/encoding"
	}
	// It finds nothing, which grep calls a failure.
	return exec.CommandContext(ctx, "sh", "-c", `grep -rqs watchglass_is_not_here "$(go env GOROOT)$0"; [ $? = 1 ]`, folder)
}
