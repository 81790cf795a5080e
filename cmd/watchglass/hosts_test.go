// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/watchglass/watchglass/collector/sandbox"
	"github.com/watchglass/watchglass/internal/testenv"
)

// What makes a mount namespace look like another host's.
const (
	// noCgroups takes away every hierarchy.
	noCgroups = `mount --make-rprivate /
for m in $(awk '$3 ~ /^cgroup/ {print $2}' /proc/mounts | sort -r); do umount -l "$m"; done
`
	onlyV1 = noCgroups + `mount -t tmpfs none /sys/fs/cgroup; mkdir /sys/fs/cgroup/old
mount -t cgroup -o none,name=watchglass-test none /sys/fs/cgroup/old || exit 77
`
	onlyV2 = noCgroups + `mount -t cgroup2 none /sys/fs/cgroup || exit 78
`
)

// hosted is the program in a mount namespace of its own, where setup was done before. flags is more namespaces.
func hosted(t *testing.T, setup string, flags uintptr, args ...string) *exec.Cmd {
	t.Helper()
	cmd := program(t, args...)
	self := cmd.Path
	bash, err := exec.LookPath("bash")
	if err != nil {
		testenv.Unable(t, err.Error())
	}
	cmd.Path = bash
	cmd.Args = append([]string{"bash", "-c", setup + `exec -a ` + programName + ` "$0" "$@"`, self}, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | flags}
	return cmd
}

// TestKernelRefusesHosts: a host on which no sandbox can be told is refused, with what to do.
func TestKernelRefusesHosts(t *testing.T) {
	testenv.RequireEBPF(t)
	for _, host := range []struct{ name, setup, says, remedy string }{
		{"cgroup v1 only", onlyV1, "cgroup v1 only is unsupported", "mount cgroup2 beside v1"},
		{"no cgroups", noCgroups, "no cgroup2 file system is mounted", "mount -t cgroup2"},
	} {
		for _, args := range [][]string{{"check"}, {"collect"}, {"run", "--", "true"}} {
			got := finish(t, hosted(t, host.setup, 0, args...))
			if got.code == 77 {
				t.Log("this kernel has no cgroup v1 to show")
				continue
			}
			said := got.stdout + got.stderr
			if got.code == 0 || !strings.Contains(said, host.says) || !strings.Contains(said, host.remedy) {
				t.Errorf("%s on a host with %s: exit code %d:\n%s", args[0], host.name, got.code, said)
			}
		}
	}
}

// TestKernelHosts runs a session on a host with cgroup2 alone, and in a container, which has a cgroup namespace of its own:
// what its processes do is seen, also by a process that makes yet another namespace inside. Hybrid is what other tests run
// on, or this.
func TestKernelHosts(t *testing.T) {
	testenv.RequireEBPF(t)
	m, err := sandbox.FindMount()
	if err != nil {
		testenv.Unable(t, err.Error())
	}
	container := filepath.Join(m.Dir, fmt.Sprintf("watchglass-test-%d-%d", os.Getpid(), time.Now().UnixNano()))
	t.Cleanup(func() {
		dirs, _ := filepath.Glob(container + "/*/*")
		more, _ := filepath.Glob(container + "/*")
		for _, dir := range append(append(dirs, more...), container) {
			_ = os.Remove(dir)
		}
	})
	enter := fmt.Sprintf("mkdir %[1]s && echo $$ >%[1]s/cgroup.procs || exit 79\n", container)
	for _, host := range []struct{ name, setup string }{
		{"cgroup2 only", onlyV2},
		{"a container", enter + `exec unshare -C bash -c '` + strings.ReplaceAll(onlyV2, "'", `'\''`) + `exec -a ` + programName + ` "$0" "$@"' "$0" "$@"` + "\n"},
	} {
		t.Run(host.name, func(t *testing.T) {
			events := filepath.Join(t.TempDir(), "events.jsonl")
			script := `/bin/echo outer; unshare -C -m sh -c "mkdir m; mount -t cgroup2 none m && mkdir m/inner && echo \$\$ >m/inner/cgroup.procs && /bin/echo inner"`
			cmd := hosted(t, host.setup, 0, "run", "--quiet", "--json", events, "--", "sh", "-c", script)
			cmd.Dir = t.TempDir()
			got := finish(t, cmd)
			if got.code != 0 || got.stdout != "outer\ninner\n" {
				t.Fatalf("%+v", got)
			}
			list := readLines(t, events)
			for _, want := range []string{"/bin/echo outer", "/bin/echo inner"} {
				if !slices.Contains(execs(list, ""), want) {
					t.Errorf("%s is not seen: %q", want, execs(list, ""))
				}
			}
			i := slices.IndexFunc(list, func(l line) bool {
				return l.Event == "watchglass.process.exec" && slices.Equal(l.args(), []string{"/bin/echo", "inner"})
			})
			if i < 0 || !strings.HasSuffix(fmt.Sprint(list[i].Attributes["process.linux.cgroup"]), "/inner") {
				t.Errorf("the process in the inner cgroup is in %v", list[max(i, 0)].Attributes["process.linux.cgroup"])
			}
		})
	}
}
