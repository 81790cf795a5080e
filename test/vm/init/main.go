// SPDX-License-Identifier: Apache-2.0

// Command init is process 1 of the test machine: it mounts what a node has, runs every test binary
// below /tests and powers the machine off. Its last line on the console is the verdict that the
// host side (test/vm) reads.
//
// It must not know any single test: what runs is what the host packed.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	code := 0
	if err := prepare(); err != nil {
		fmt.Println("vm: preparing the machine:", err)
		code = 1
	} else if err := runAll(); err != nil {
		fmt.Println("vm:", err)
		code = 1
	}
	fmt.Printf("\nVM-EXIT %d\n", code)
	syscall.Sync()
	// The serial port empties slowly: give the verdict time to leave before the power goes.
	time.Sleep(200 * time.Millisecond)
	if err := syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("vm: powering off:", err)
	}
}

// prepare mounts the file systems of an ordinary cgroup2-only node and brings loopback up.
func prepare() error {
	mounts := []struct {
		source, target, kind string
		required             bool
	}{
		{"proc", "/proc", "proc", true},
		{"sysfs", "/sys", "sysfs", true},
		{"devtmpfs", "/dev", "devtmpfs", true},
		{"devpts", "/dev/pts", "devpts", true},
		{"tmpfs", "/dev/shm", "tmpfs", true},
		{"tmpfs", "/tmp", "tmpfs", true},
		{"tmpfs", "/run", "tmpfs", true},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", true},
		{"bpf", "/sys/fs/bpf", "bpf", true},
		{"tracefs", "/sys/kernel/tracing", "tracefs", false},
	}
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(m.source, m.target, m.kind, 0, ""); err != nil && m.required {
			return fmt.Errorf("mounting %s on %s: %w", m.kind, m.target, err)
		}
	}
	for _, env := range [][2]string{
		{"PATH", "/bin:/sbin:/usr/bin:/usr/sbin"},
		{"HOME", "/root"},
		{"TMPDIR", "/tmp"},
		{"WATCHGLASS_REQUIRE_EBPF", "1"},
		// What would disturb others is alone here.
		{"WATCHGLASS_VM", "1"},
	} {
		if err := os.Setenv(env[0], env[1]); err != nil {
			return err
		}
	}
	return errors.Join(loadModules(), loopbackUp())
}

// loadModules loads the modules that the host packed for this kernel.
func loadModules() error {
	found, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	for _, name := range found {
		module, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(module.Fd()), "", 0)
		_ = module.Close()
		if err != nil {
			return fmt.Errorf("loading the module %s: %w", name, err)
		}
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket to bring loopback up: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("bringing loopback up: %w", err)
	}
	return nil
}

// runAll runs each /tests/**/*.test in its own directory and reports all failures, not just the first.
func runAll() error {
	var binaries []string
	err := filepath.WalkDir("/tests", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(path, ".test") {
			binaries = append(binaries, path)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("looking for test binaries: %w", err)
	}
	if len(binaries) == 0 {
		return errors.New("no test binary was packed")
	}
	plan, err := readParameter("plan")
	if err != nil {
		return err
	}
	if err := os.Setenv("WATCHGLASS_PLAN", plan); err != nil {
		return err
	}
	if err := setEnvironment(); err != nil {
		return err
	}
	brief, err := readParameter("brief")
	if err != nil {
		return err
	}
	if brief != "" {
		if err := os.Setenv("WATCHGLASS_OWN_TRACERS", "0"); err != nil {
			return err
		}
	}
	text, err := os.ReadFile("/tests/args-" + plan)
	if err != nil {
		return fmt.Errorf("reading the tests' arguments: %w", err)
	}
	args := strings.Split(strings.TrimSpace(string(text)), "\n")
	share, shares, err := readShare()
	if err != nil {
		return err
	}
	limit, err := readLimit()
	if err != nil {
		return err
	}
	var failed []error
	for _, binary := range binaries {
		fmt.Println("=== BINARY", strings.TrimPrefix(binary, "/tests/"))
		own := args
		if shares > 1 {
			if own, err = ownTests(binary, args, limit, func(i int) bool { return i%shares == share-1 }); err != nil {
				failed = append(failed, err)
				continue
			}
		}
		if err := runOne(binary, own, limit); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", binary, err))
		}
	}
	return errors.Join(failed...)
}

// readShare is which of how many shares of the tests this machine is to run.
func readShare() (share, shares int, err error) {
	value, err := readParameter("share")
	if err != nil || value == "" {
		return 1, 1, err
	}
	if _, err := fmt.Sscanf(value, "%d/%d", &share, &shares); err != nil {
		return 0, 0, fmt.Errorf("reading the share %q of the tests: %w", value, err)
	}
	return share, shares, nil
}

// readLimit is how long one test binary may take: emulation is slow, a hang must still end.
func readLimit() (time.Duration, error) {
	value, err := readParameter("limit")
	if err != nil {
		return 0, err
	}
	limit, err := time.ParseDuration(value)
	if err != nil {
		return 0, fmt.Errorf("reading how long the tests may take: %w", err)
	}
	return limit, nil
}

// setEnvironment sets the variables that the host wants the tests to find.
func setEnvironment() error {
	text, err := os.ReadFile("/tests/environment")
	if err != nil {
		return fmt.Errorf("reading the tests' environment: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("setting %q for the tests: %w", name, err)
		}
	}
	return nil
}

// readParameter is what the kernel's command line says of the machine, "" for nothing.
func readParameter(name string) (string, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", fmt.Errorf("reading what is to be run: %w", err)
	}
	for word := range strings.FieldsSeq(string(line)) {
		if value, found := strings.CutPrefix(word, "watchglass."+name+"="); found {
			return value, nil
		}
	}
	return "", nil
}

// ownTests is the arguments with those of the tests that they say that wanted says, by their place.
func ownTests(binary string, args []string, limit time.Duration, wanted func(int) bool) (own []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for _, arg := range args {
		pattern, found := strings.CutPrefix(arg, "-test.run=")
		if !found {
			own = append(own, arg)
			continue
		}
		list, err := exec.CommandContext(ctx, binary, "-test.list="+pattern).Output()
		if err != nil {
			return nil, fmt.Errorf("listing the tests of %s: %w", binary, err)
		}
		var names []string
		for i, name := range strings.Fields(string(list)) {
			if wanted(i) {
				names = append(names, name)
			}
		}
		own = append(own, "-test.run=^("+strings.Join(names, "|")+")$")
	}
	return own, nil
}

func runOne(binary string, args []string, limit time.Duration) error {
	cmd := exec.CommandContext(context.Background(), binary, args...)
	cmd.Dir = filepath.Dir(binary)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	timer := time.AfterFunc(limit, func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	defer timer.Stop()
	return reap(pid)
}

// reap waits for a child, and meanwhile for those whose parents ended before them, which are process 1's then: one that nobody
// waits for keeps its place among its cgroup's processes.
func reap(child int) error {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Errorf("waiting for process %d: %w", child, err)
		case pid != child:
		case status.Signaled():
			return fmt.Errorf("ended by the signal %s", status.Signal())
		case status.ExitStatus() != 0:
			return fmt.Errorf("exit status %d", status.ExitStatus())
		default:
			return nil
		}
	}
}
