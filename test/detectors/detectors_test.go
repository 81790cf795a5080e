// SPDX-License-Identifier: Apache-2.0

// Package detectors_test executes attacks and their benign look-alikes in a sandbox under the real
// binary and looks at the findings. It holds no scripted events: those are beside the detectors.
package detectors_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// watchglass builds the binary on its first call.
var watchglass func() (string, error)

// attackVariable makes the test binary itself the attacker: it is the program at hand that can do
// what no shell can.
const attackVariable = "WATCHGLASS_TEST_ATTACK"

func TestMain(m *testing.M) {
	if kind := os.Getenv(attackVariable); kind != "" {
		if err := attack(kind); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	dir, err := os.MkdirTemp("", "watchglass-detectors-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	watchglass = build(dir)
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// attack replaces this process by /bin/true, from where no file is.
func attack(kind string) error {
	var fd int
	var err error
	switch kind {
	case "memfd":
		fd, err = unix.MemfdCreate("payload", unix.MFD_CLOEXEC)
	case "deleted":
		fd, err = deletedCopy()
	case "unnamed":
		fd, err = unix.Open(os.Getenv("HOME"), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o700)
	default:
		err = errors.New("unknown attack")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	if kind != "deleted" {
		if err := copyTrue(fd); err != nil {
			return err
		}
	}
	// A file that is open for writing cannot be executed: go on with a descriptor for reading.
	reading, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Close(fd); err != nil {
		return err
	}
	return unix.Exec(fmt.Sprintf("/proc/self/fd/%d", reading), []string{"kworker/0:1"}, nil)
}

// deletedCopy is a descriptor of a copy of /bin/true that was unlinked, in a directory that is not temporary.
func deletedCopy() (int, error) {
	path := os.Getenv("HOME") + "/implant"
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o700)
	if err != nil {
		return 0, err
	}
	if err := copyTrue(fd); err != nil {
		return 0, err
	}
	return fd, unix.Unlink(path)
}

func copyTrue(fd int) error {
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		return err
	}
	for len(program) > 0 {
		n, err := unix.Write(fd, program)
		if err != nil {
			return err
		}
		program = program[n:]
	}
	return nil
}

// home is a home directory with a key, a project and settings, below dir.
func home(t *testing.T, dir string) string {
	t.Helper()
	h, err := os.MkdirTemp(dir, "watchglass-home-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(h) })
	for name, text := range map[string]string{
		".ssh/id_rsa":          "-----BEGIN OPENSSH PRIVATE KEY-----\nnot a key\n-----END OPENSSH PRIVATE KEY-----\n",
		".ssh/id_rsa.pub":      "ssh-rsa AAAA not a key\n",
		".aws/credentials":     "[default]\naws_secret_access_key = not-a-key\n",
		"project/.env":         "TOKEN=not-a-token\n",
		"project/.env.example": "TOKEN=\n",
		"project/go.mod":       "module example.org/hello\n\ngo 1.26\n",
		"project/main.go":      "package main\n\nfunc main() { println(\"hello\") }\n",
		"project/main_test.go": "package main\n\nimport \"testing\"\n\nfunc TestHello(*testing.T) {}\n",
	} {
		path := filepath.Join(h, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// need skips when a program that the look-alike is about is not installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

func TestKernelSecretRead(t *testing.T) {
	for _, c := range []struct {
		name, config, script string
		need                 []string
		want                 []expectation
	}{
		{name: "a key is read", script: "cat .ssh/id_rsa >/dev/null", want: []expectation{{"secret-read", "high", "/.ssh/id_rsa", 1}}},
		{
			name: "by another name, and again", script: "ln -s $HOME/.ssh project/notes; cd project; cat notes/../.ssh/id_rsa notes/id_rsa >/dev/null; head -c1 notes/id_rsa >/dev/null",
			want: []expectation{{"secret-read", "high", "/.ssh/id_rsa", 2}},
		},
		{
			name: "many secrets by one command", script: "grep -r not-a . >/dev/null",
			want: []expectation{{"secret-read", "high", "/.ssh/id_rsa", 1}, {"secret-read", "high", "/.aws/credentials", 1}, {"secret-read", "low", "/project/.env", 1}},
		},
		{
			name:   "looking without reading",
			script: "cat .ssh/id_rsa.pub project/.env.example >/dev/null; ls -l .ssh .aws >/dev/null; stat .ssh/id_rsa >/dev/null; test -r .aws/credentials; cat .ssh/id_dsa 2>/dev/null || true",
		},
		{
			name: "a secret of the sandbox's own", script: "echo TOKEN=x >project/.env.local; cat project/.env.local >/dev/null",
		},
		{
			name: "an exception of the configuration", script: "cat .aws/credentials >/dev/null",
			config: "policy:\n  files:\n    allow:\n      - {path: .aws/credentials, executable: \"/usr/bin/**\"}\n",
		},
		{
			name: "ssh uses the key to log in", need: []string{"ssh"},
			script: "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -i .ssh/id_rsa -p 1 nobody@127.0.0.1 true 2>/dev/null || true",
		},
		{
			name: "ssh-keygen shows the key", need: []string{"ssh-keygen"},
			script: "ssh-keygen -y -f .ssh/id_rsa >/dev/null 2>&1 || true",
			want:   []expectation{{"secret-read", "high", "/.ssh/id_rsa", 0}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			need(t, c.need...)
			expect(t, run(t, session{config: c.config, script: c.script, home: home(t, "")}), c.want...)
		})
	}
}

// listen is a server on loopback that accepts and closes.
func listen(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "hello\n")
			_ = conn.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func TestKernelOffPolicyConnect(t *testing.T) {
	allowed, other := listen(t), listen(t)
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := closed.Addr().(*net.TCPAddr).Port
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	policy := fmt.Sprintf("policy:\n  network:\n    allow: [\"tcp/127.0.0.1:%d\"]\n", allowed)
	connect := func(port int) string {
		return fmt.Sprintf("(cat </dev/tcp/127.0.0.1/%d >/dev/null) 2>/dev/null || true;", port)
	}
	object := func(port int) string { return fmt.Sprintf("tcp 127.0.0.1:%d", port) }
	for _, c := range []struct {
		name, config, script string
		want                 []expectation
	}{
		{name: "a destination that is not listed", config: policy, script: connect(other), want: []expectation{{"off-policy-connect", "medium", object(other), 1}}},
		{name: "refused", config: policy, script: connect(refused), want: []expectation{{"off-policy-connect", "medium", object(refused), 1}}},
		{
			name: "in a loop", config: policy, script: "for i in 1 2 3 4 5; do " + connect(other) + " done",
			want: []expectation{{"off-policy-connect", "medium", object(other), 4}},
		},
		{
			name: "a datagram", config: policy, script: fmt.Sprintf("echo x >/dev/udp/127.0.0.1/%d", allowed),
			want: []expectation{{"off-policy-connect", "medium", fmt.Sprintf("udp 127.0.0.1:%d", allowed), 1}},
		},
		{name: "a destination that is listed", config: policy, script: connect(allowed)},
		{name: "no allow-list", script: connect(other) + connect(refused)},
	} {
		t.Run(c.name, func(t *testing.T) {
			expect(t, run(t, session{config: c.config, script: c.script, home: home(t, "")}), c.want...)
		})
	}
}

func TestKernelUnbackedExec(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	as := func(kind string) string { return attackVariable + "=" + kind + " " + self }
	goEnv := goEnvironment(t)
	for _, c := range []struct {
		name, script string
		need         []string
		want         []expectation
	}{
		{name: "anonymous memory", script: as("memfd"), want: []expectation{{"unbacked-exec", "high", "memfd", 1}}},
		{name: "a deleted file", script: as("deleted"), want: []expectation{{"unbacked-exec", "high", "implant", 1}}},
		{name: "a file that never had a name", script: as("unnamed"), want: []expectation{{"unbacked-exec", "high", "", 1}}},
		{name: "a copy", script: "cp /bin/true ./true; ./true", want: []expectation{{"unbacked-exec", "medium", "/true", 1}}},
		{name: "a copy, renamed", script: "cp /bin/true ./a; mv a ld; ./ld", want: []expectation{{"unbacked-exec", "medium", "/ld", 1}}},
		{
			name: "a copy without an extension of its own, made executable later", script: "cat /bin/true >x.json; chmod +x x.json; ./x.json",
			want: []expectation{{"unbacked-exec", "medium", "/x.json", 1}},
		},
		{
			name: "a compiler of the session's own", need: []string{"cc"},
			// The fake linker is a copy of cp: what it "links" is a copy.
			script: "mkdir bin; cp /bin/cp bin/ld; bin/ld /bin/true out; ./out",
			want:   []expectation{{"unbacked-exec", "medium", "/bin/ld", 1}, {"unbacked-exec", "medium", "/out", 1}},
		},
		{name: "go build", need: []string{"go"}, script: goEnv + "cd project; go build -o ../hello .; ../hello 2>/dev/null"},
		{name: "go run and go test", need: []string{"go"}, script: goEnv + "cd project; go run . 2>/dev/null; go test . >/dev/null"},
		{name: "cc and strip", need: []string{"cc", "strip"}, script: "echo 'int main(void){return 0;}' >m.c; cc m.c -o m; ./m; strip m; ./m"},
		{name: "a script", script: "printf '#!/bin/sh\\nexit 0\\n' >s; chmod +x s; ./s"},
		{name: "a program that was there before", script: self + " -test.run=^$ >/dev/null"},
	} {
		t.Run(c.name, func(t *testing.T) {
			need(t, c.need...)
			expect(t, run(t, session{script: c.script, home: home(t, "/tmp")}), c.want...)
		})
	}
}

// goEnvironment points a go command with another home at the machine's caches.
func goEnvironment(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		return ""
	}
	words := strings.Fields(string(out))
	return fmt.Sprintf("export GOCACHE=%s GOMODCACHE=%s GOTOOLCHAIN=local GOFLAGS=-mod=mod GOPROXY=off;", words[0], words[1])
}
