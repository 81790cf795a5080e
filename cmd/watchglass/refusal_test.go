// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/watchglass/watchglass/internal/testenv"
)

// TestRefusals is what needs no kernel: what is wrong is said, and what to do, before anything is run.
func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("log:\n  levle: info\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"run"}, 125, "requires at least 1 arg"},
		{[]string{"run", "--no-such-flag", "--", "true"}, 125, "unknown flag: --no-such-flag"},
		{[]string{"run", "--config", bad, "--", "touch", dir + "/ran"}, 125, bad + `:2: unknown key "levle" in log; is "level" meant?`},
		{[]string{"run", "--config", dir + "/none", "--", "touch", dir + "/ran"}, 125, "no such file"},
		{[]string{"run", "--json", "-", "--", "touch", dir + "/ran"}, 125, "standard output is the command's"},
		{[]string{"collect", "--config", bad}, 1, bad + `:2: unknown key "levle" in log; is "level" meant?`},
		{[]string{"collect", "--config", dir + "/none"}, 1, "no such file"},
		{[]string{"collect", "extra"}, 1, `unknown command "extra"`},
		{[]string{"no-such-command"}, 1, "unknown command"},
		{[]string{"check", "--config", bad}, 1, ""},
	} {
		got := finish(t, program(t, test.args...))
		if got.code != test.code || !strings.Contains(got.stderr, test.want) {
			t.Errorf("%q: exit code %d, want %d; %q lacks %q", test.args, got.code, test.code, got.stderr, test.want)
		}
	}
	if _, err := os.Stat(dir + "/ran"); err == nil {
		t.Error("a command was run although watching it failed")
	}
}

func TestVersionAndDefaults(t *testing.T) {
	if got := finish(t, program(t, "version")); got.code != 0 || !strings.HasPrefix(got.stdout, "watchglass ") {
		t.Errorf("version: %+v", got)
	}
	if got := finish(t, program(t, "collect", "--print-config")); got.code != 0 || got.stdout != string(defaultConfigText) {
		t.Errorf("--print-config: exit code %d, %d bytes", got.code, len(got.stdout))
	}
}

// asNobody makes a run of watchglass that of a user without rights, or skips.
func asNobody(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		return cmd
	}
	const nobody = 65534
	// A copy where that user may execute it.
	text, err := os.ReadFile(cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "watchglass-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cmd.Path = filepath.Join(dir, "watchglass")
	if err := os.WriteFile(cmd.Path, text, 0o755); err != nil { //nolint:gosec // Another user executes it.
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // Another user executes it.
		t.Fatal(err)
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

func TestWithoutRoot(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
	}{
		{[]string{"run", "--", "true"}, 125},
		{[]string{"collect"}, 1},
		{[]string{"check"}, 1},
		{[]string{"check", "--json"}, 1},
	} {
		got := finish(t, asNobody(t, program(t, test.args...)))
		if got.code != test.code || !strings.Contains(got.stdout+got.stderr, "not root") {
			t.Errorf("%q: exit code %d; %q %q", test.args, got.code, got.stdout, got.stderr)
		}
	}
}

func TestKernelCollectPortInUse(t *testing.T) {
	testenv.RequireEBPF(t)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	address := listener.Addr().String()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("exporters:\n  prometheus:\n    address: "+address+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := finish(t, program(t, "collect", "--config", path))
	if got.code != 1 || !strings.Contains(got.stderr, address) || !strings.Contains(got.stderr, "in use") {
		t.Errorf("collect: exit code %d: %s", got.code, got.stderr)
	}
	got = finish(t, program(t, "run", "--metrics", address, "--", "echo", "ran"))
	if got.code != 125 || !strings.Contains(got.stderr, "in use") || got.stdout != "" {
		t.Errorf("run: exit code %d: %s%s", got.code, got.stdout, got.stderr)
	}
}

// TestKernelLayouts runs the program in mount namespaces with other layouts of cgroups and file systems.
func TestKernelLayouts(t *testing.T) {
	testenv.RequireEBPF(t)
	const unmountAll = `grep -E ' - cgroup2? ' /proc/self/mountinfo | cut -d' ' -f5 | while read -r dir; do umount "$dir" || exit 99; done; `
	for _, test := range []struct {
		name, layout string
		code         int
		want         string
	}{
		{"none", unmountAll, 125, "no cgroup2 file system is mounted"},
		{"v1 only", unmountAll + `mkdir -p "$0/v1" && mount -t cgroup -o none,name=watchglasstest none "$0/v1" || exit 98; `, 125, "cgroup v1 only is unsupported"},
		{"elsewhere", unmountAll + `mkdir -p "$0/else where" && mount -t cgroup2 none "$0/else where" || exit 97; `, 9, ""},
		{"read-only", `dir=$(grep -m1 ' - cgroup2 ' /proc/self/mountinfo | cut -d' ' -f5); mount --bind "$dir" "$dir" && mount -o remount,bind,ro "$dir" || exit 95; `, 125, "with the cgroup2 file system writable"},
		{"no type information", `mount -t tmpfs none /sys/kernel/btf || exit 96; `, 125, "CONFIG_DEBUG_INFO_BTF"},
		{"hybrid", `mkdir -p "$0/v1" && mount -t cgroup -o none,name=watchglasstest none "$0/v1" || exit 98; `, 9, ""},
	} {
		cmd := program(t, "run", "--quiet", "--", "sh", "-c", "exit 9")
		script := test.layout + `exec -a watchglass "$@"`
		args := append([]string{"--mount", "--propagation", "private", "bash", "-c", script, t.TempDir(), cmd.Path}, cmd.Args[1:]...)
		got := finish(t, exec.CommandContext(t.Context(), "unshare", args...))
		if got.code != test.code || !strings.Contains(got.stderr, test.want) {
			t.Errorf("%s: exit code %d, want %d; %q lacks %q", test.name, got.code, test.code, got.stderr, test.want)
		}
	}
}
