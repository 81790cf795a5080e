// SPDX-License-Identifier: Apache-2.0

// Command genbpf compiles every *.bpf.c of the current directory and writes its Go side.
//
// It owns the compiler, its flags and the list of types that get a Go twin: those that a source names in
// ABI_STRUCT. The output depends on the sources alone, not on where the checkout is: sources are compiled
// in a copy at a fixed place, and with the kernel's randomness of addresses off, because clang orders some types by
// where in memory its own copies of names happen to be. It must not be needed to build Watchglass: what it writes is committed.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
)

// compiler is pinned: another version's objects differ byte for byte, and may not pass an old kernel's verifier.
const compiler = "clang-19"

// suffix is how sources end; what stands before it is the probe's name.
const suffix = ".bpf.c"

// addrNoRandomize is ADDR_NO_RANDOMIZE of personality(2).
const addrNoRandomize = 0x0040000

// stage is where sources are compiled. Fixed, and not below TMPDIR: see the package comment.
const stage = "/tmp/watchglass-genbpf"

func main() {
	fixAddresses()
	if err := generate(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "genbpf:", err)
		os.Exit(1)
	}
}

// fixAddresses has what this thread starts from now on find its memory at the same addresses each time. Where a
// container forbids that, an object may come out in another order once in a while: the check of what is committed tells.
func fixAddresses() {
	runtime.LockOSThread()
	_, _, _ = syscall.RawSyscall(syscall.SYS_PERSONALITY, addrNoRandomize, 0, 0)
}

// generate compiles the named probes of the current directory, all of them when none is named.
func generate(probes []string) error {
	if _, err := exec.LookPath(compiler); err != nil {
		return fmt.Errorf("finding the compiler: %w", err)
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	sources, err := filepath.Glob("*" + suffix)
	if err != nil {
		return fmt.Errorf("listing sources: %w", err)
	}
	if len(probes) > 0 {
		sources = sources[:0]
	}
	for _, probe := range probes {
		sources = append(sources, probe+suffix)
	}
	if len(sources) == 0 {
		return errors.New("no *" + suffix + " in the current directory")
	}
	unlock, err := prepareStage(root)
	if err != nil {
		return fmt.Errorf("preparing %s: %w", stage, err)
	}
	defer unlock()
	for _, source := range sources {
		if err := compile(root, source); err != nil {
			return fmt.Errorf("compiling %s: %w", source, err)
		}
	}
	return nil
}

// prepareStage copies everything that sources may include to the stage, which is this process's until the
// returned function is called.
func prepareStage(root string) (unlock func(), err error) {
	lock, err := os.OpenFile(stage+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", lock.Name(), err), lock.Close())
	}
	unlock = func() { _ = errors.Join(os.RemoveAll(stage), lock.Close()) }
	if err := os.RemoveAll(stage); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	for _, dir := range []string{"bpf", "headers"} {
		if err := os.CopyFS(filepath.Join(stage, dir), os.DirFS(filepath.Join(root, dir))); err != nil {
			unlock()
			return nil, err
		}
	}
	return unlock, nil
}

// compile runs bpf2go on the stage's copy of one source, and brings what it wrote to the current directory.
func compile(root, source string) error {
	text, err := os.ReadFile(source)
	if err != nil {
		return fmt.Errorf("reading the source: %w", err)
	}
	here, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("finding the current directory: %w", err)
	}
	place, err := filepath.Rel(root, here)
	if err != nil {
		return fmt.Errorf("finding the place in the module: %w", err)
	}
	// "go tool" itself only runs inside of the module.
	tool, err := exec.Command("go", "tool", "-n", "bpf2go").Output()
	if err != nil {
		return fmt.Errorf("finding bpf2go: %w", err)
	}
	// One object for every architecture whose bytes have this order: what differs, sources find out when they are loaded.
	args := []string{"-cc", compiler, "-target", "bpfel", "-no-global-types"}
	for _, m := range regexp.MustCompile(`(?m)^ABI_(?:STRUCT|ENUM)\((\w+)\)`).FindAllSubmatch(text, -1) {
		args = append(args, "-type", string(m[1]))
	}
	name := strings.TrimSuffix(source, suffix)
	args = append(args, name, source, "--",
		"-mcpu=v3", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-Wpadded",
		"-ffile-prefix-map="+stage+"=.",
		"-isystem", filepath.Join(stage, "headers"))
	cmd := exec.Command(strings.TrimSpace(string(tool)), args...)
	cmd.Dir = filepath.Join(stage, place)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running bpf2go: %w", err)
	}
	written, err := filepath.Glob(filepath.Join(cmd.Dir, name+"_bpfel*"))
	if err != nil || len(written) == 0 {
		return fmt.Errorf("bpf2go wrote nothing for %s: %w", name, err)
	}
	for _, file := range written {
		bytes, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading what bpf2go wrote: %w", err)
		}
		if err := os.WriteFile(filepath.Base(file), bytes, 0o644); err != nil {
			return fmt.Errorf("keeping what bpf2go wrote: %w", err)
		}
	}
	return nil
}

// moduleRoot is the directory of go.mod at or above the current directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the current directory: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the current directory")
		}
		dir = parent
	}
}
