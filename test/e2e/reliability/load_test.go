// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// loadVariable makes the test's binary the workload: "DIRECTORY RATE", or another by its first word.
const loadVariable = "WATCHGLASS_RELIABILITY_LOAD"

const (
	// files is how many files the workload opens in turn.
	files = 500
	// secrets is how many secrets it reads, one after the other.
	secrets = 500
)

// secretAt is when the workload reads a secret, after its start: five a second, and after a hundred one every two seconds.
// Of more than 256 findings of a rule in ten minutes the rest is told as one, and not of which secrets.
func secretAt(n int) time.Duration {
	const often, interval, seldom = 100, 200 * time.Millisecond, 2 * time.Second
	return time.Duration(min(n, often))*interval + time.Duration(max(0, n-often))*seldom
}

// load opens files at the rate until it is told to end. It says of each secret that it read it, and at the end
// how many opens it made.
func load() error {
	if name, rest, _ := strings.Cut(os.Getenv(loadVariable), " "); name == numberedLoad {
		return runNumbered(rest)
	} else if name == agentLoad {
		return runAgent(rest)
	}
	var dir string
	var rate int
	if _, err := fmt.Sscan(os.Getenv(loadVariable), &dir, &rate); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	paths := make([]string, files)
	for i := range paths {
		paths[i] = filepath.Join(dir, strconv.Itoa(i))
	}
	open := func(path string) error {
		fd, err := syscall.Open(path, syscall.O_RDONLY, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
		return syscall.Close(fd)
	}
	start, opens, secret := time.Now(), 0, 0
	for {
		select {
		case <-ended:
			fmt.Printf("opens %d\n", opens)
			return nil
		case <-time.After(2 * time.Millisecond):
		}
		// At most a tenth of a second is made up for, after which the machine was too busy.
		due := int(time.Since(start).Seconds() * float64(rate))
		if behind := due - opens - rate/10; behind > 0 {
			start = start.Add(time.Duration(float64(behind) / float64(rate) * float64(time.Second)))
			due -= behind
		}
		for ; opens < due; opens++ {
			if err := open(paths[opens%files]); err != nil {
				return err
			}
		}
		if secret < secrets && time.Since(start) > secretAt(secret) {
			if err := open(secretPath(dir, secret)); err != nil {
				return err
			}
			fmt.Printf("secret %d %d\n", secret, time.Now().UnixNano())
			secret++
		}
	}
}

func secretPath(dir string, n int) string {
	return filepath.Join(dir, strconv.Itoa(n)+".home", ".aws", "credentials")
}

// workload is the running load, and what it did.
type workload struct {
	command *exec.Cmd
	done    sync.WaitGroup
	mu      sync.Mutex
	opens   int
	secrets map[string]time.Time
}

// startLoad starts the workload in the cgroup.
func startLoad(t *testing.T, s *stage, cgroup string) *workload {
	t.Helper()
	dir := filepath.Join(s.dir, "work")
	for i := range files {
		write(t, filepath.Join(dir, strconv.Itoa(i)))
	}
	for i := range secrets {
		write(t, secretPath(dir, i))
	}
	w := &workload{secrets: map[string]time.Time{}}
	w.start(t, cgroup, fmt.Sprintf("%s %d", dir, s.scale.rate), func(words []string) { w.said(dir, words) })
	return w
}

// start starts the workload that the variable says in the cgroup. What it says goes to said, by words.
func (w *workload) start(t *testing.T, cgroup, variable string, said func(words []string)) {
	t.Helper()
	directory, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = directory.Close() }()
	w.command = exec.CommandContext(context.Background(), "/proc/self/exe")
	w.command.Env = append(os.Environ(), loadVariable+"="+variable)
	w.command.Stderr = os.Stderr
	w.command.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(directory.Fd()), Pdeathsig: syscall.SIGKILL}
	output, err := w.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.command.Start(); err != nil {
		t.Fatal(err)
	}
	w.done.Go(func() {
		lines := bufio.NewScanner(output)
		for lines.Scan() {
			said(strings.Fields(lines.Text()))
		}
	})
	t.Cleanup(func() { _ = w.command.Process.Kill() })
}

func (w *workload) said(dir string, words []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case len(words) == 3 && words[0] == "secret":
		n, _ := strconv.Atoi(words[1])
		at, _ := strconv.ParseInt(words[2], 10, 64)
		w.secrets[secretPath(dir, n)] = time.Unix(0, at)
	case len(words) == 2 && words[0] == "opens":
		w.opens, _ = strconv.Atoi(words[1])
	}
}

// stop ends the workload.
func (w *workload) stop(t *testing.T) {
	t.Helper()
	_ = w.command.Process.Signal(syscall.SIGTERM)
	w.done.Wait()
	if err := w.command.Wait(); err != nil {
		t.Errorf("the workload: %v", err)
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}
