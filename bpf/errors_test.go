// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// helperOpenTracer opens a tracer where something is missing: hidden by a mount over it, or unmounted.
// It says which of the known reasons the error is.
func helperOpenTracer(args []string) (string, error) {
	for _, dir := range args {
		if hidden, found := strings.CutPrefix(dir, "hide:"); found {
			if err := unix.Mount("none", hidden, "tmpfs", 0, ""); err != nil {
				return "", err
			}
			continue
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return "", err
		}
	}
	tracer, err := Open(testConfig())
	if err == nil {
		return "opened", tracer.Close()
	}
	for name, known := range map[string]error{
		"ErrNoPermission": ErrNoPermission, "ErrNoBTF": ErrNoBTF, "ErrNoCgroup2": ErrNoCgroup2,
	} {
		if errors.Is(err, known) {
			return name, nil
		}
	}
	return "", err
}

func TestKernelOpenErrors(t *testing.T) {
	requireKernel(t)
	// Where an unprivileged user can run it: the test's own binary is in a directory of root.
	binary := copyOf(t, os.Args[0], filepath.Join(t.TempDir(), "bpf.test"))
	for _, dir := range []string{filepath.Dir(binary), filepath.Dir(filepath.Dir(binary))} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name, want string
		args       []string
		attr       syscall.SysProcAttr
	}{
		{name: "all there", want: "opened"},
		{
			name: "no root", want: "ErrNoPermission",
			attr: syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}},
		},
		{
			name: "no BTF", want: "ErrNoBTF", args: []string{"hide:/sys/kernel/btf"},
			attr: syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS},
		},
		{
			name: "no cgroup2", want: "ErrNoCgroup2", args: []string{cgroup2Mount(t)},
			attr: syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.Command(binary, append([]string{"-test.run=^TestHelperProcess$", "--"}, test.args...)...)
			cmd.Dir = filepath.Dir(binary)
			cmd.Env = []string{helperVariable + "=open tracer"}
			cmd.SysProcAttr = &test.attr
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if got := strings.TrimSpace(string(out)); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
