// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

func TestReadStatus(t *testing.T) {
	p := &event.SandboxPosture{}
	readStatus(p, []byte("Name:\tx\nUid:\t1000\t1001\t1000\t1000\nCapEff:\t0000000000200001\nNoNewPrivs:\t1\nSeccomp:\t2\n"))
	if p.UserID != 1001 || !slices.Equal(p.Capabilities, []string{"CAP_CHOWN", "CAP_SYS_ADMIN"}) || !p.NoNewPrivs || p.Seccomp != "filter" {
		t.Errorf("%+v", p)
	}
	p = &event.SandboxPosture{}
	readStatus(p, []byte("Uid:\t\nUid:\tx\ty\nCapEff:\tz\nSeccomp:\t9\n:\n\t\n"))
	if p.UserID != 0 || len(p.Capabilities) != 0 || p.Seccomp != "" {
		t.Errorf("of nonsense: %+v", p)
	}
}

func TestRouted(t *testing.T) {
	const head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	for name, test := range map[string]struct {
		routes string
		want   bool
	}{
		"default":    {"eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n", true},
		"link local": {"eth0\t0000FEA9\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n", true},
		"rejected":   {"*\t0000FEA9\t00000000\t0200\t0\t0\t0\t0000FFFF\t0\t0\t0\n", false},
		"its own":    {"eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n", false},
		"loopback":   {"lo\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n", false},
		"nonsense":   {"x\ny z\n\n", false},
	} {
		if got := routed([]byte(head + test.routes)); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestWritableMount(t *testing.T) {
	for line, want := range map[string]string{
		"36 35 98:0 / /mnt rw,noatime master:1 - ext4 /dev/root rw,errors=continue": "/mnt",
		"36 35 98:0 / / ro - ext4 /dev/root rw":                                     "",
		"36 35 98:0 /home/dev/project /work rw - ext4 /dev/root rw":                 "",
		"36 35 98:0 /etc /host/etc rw - ext4 /dev/root rw":                          "/host/etc",
		"36 35 0:50 / / rw - overlay overlay rw,lowerdir=/a":                        "",
		"36 35 0:50 / /tmp rw - tmpfs tmpfs rw":                                     "",
		"nonsense":                                                                  "", " - ": "",
	} {
		point, ok := writableMount(line)
		if ok != (want != "") || ok && point != want {
			t.Errorf("%q: %q, %v", line, point, ok)
		}
	}
}

// TestKernelExamine looks at a process without and at one with a sandbox.
func TestKernelExamine(t *testing.T) {
	testenv.RequireRoot(t)
	own, err := Examine(uint32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	if own.UserID != 0 || len(own.HostNamespaces) != 5 || !slices.Contains(own.Capabilities, "CAP_CHOWN") {
		t.Errorf("this process: %+v", own)
	}
	cmd := exec.Command("bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--cap-drop", "ALL",
		"sh", "-c", "echo ready; cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}()
	if _, err := stdout.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	inside := youngestChild(t, uint32(cmd.Process.Pid))
	p, err := Examine(inside)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.HostNamespaces) != 0 || len(p.Capabilities) != 0 || !p.NoNewPrivs || p.Network != "none" || p.MetadataRoute ||
		len(p.WritableMounts)+len(p.Devices)+len(p.Sockets) != 0 {
		t.Errorf("the sandboxed process: %+v", p)
	}
	if _, err := Examine(1<<22 + 1); err == nil {
		t.Error("no error of a process that is not there")
	}
}

// youngestChild is the last descendant of a process.
func youngestChild(t *testing.T, pid uint32) uint32 {
	t.Helper()
	time.Sleep(10 * time.Millisecond)
	for {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(children))
		if len(fields) == 0 {
			return pid
		}
		last, err := strconv.ParseUint(fields[len(fields)-1], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		pid = uint32(last)
	}
}
