// SPDX-License-Identifier: Apache-2.0

package corpus

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/watchglass/watchglass/test/e2e/loopback"
)

// The addresses of the world. All of them are the loopback device's, in a network namespace of the corpus's own;
// the kernel side tells their scopes by the addresses alone.
const (
	dropBox  = "203.0.113.10" // a public address that the policy does not allow
	registry = "203.0.113.11" // one that it does
	metadata = "169.254.169.254"
	resolver = "1.1.1.1" // a public resolver
)

// world is where sessions run: a network namespace with servers, and the tools that attacks need.
type world struct {
	dir     string
	servers []net.Listener
}

// enter makes the world. The calling goroutine is in its network namespace from then on, with all that it starts,
// and stays locked to its thread.
func enter(ctx context.Context) (*world, error) {
	if err := loopback.Enter(); err != nil {
		return nil, err
	}
	for _, address := range []string{dropBox, registry, metadata, resolver} {
		if out, err := exec.CommandContext(ctx, "ip", "address", "add", address+"/32", "dev", "lo").CombinedOutput(); err != nil {
			return nil, fmt.Errorf("give loopback the address %s: %w: %s", address, err, out)
		}
	}
	dir, err := os.MkdirTemp("", "watchglass-corpus-")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir}
	for address, handler := range map[string]http.Handler{
		dropBox + ":80": http.HandlerFunc(swallow), dropBox + ":3333": http.HandlerFunc(swallow), dropBox + ":443": http.HandlerFunc(swallow),
		registry + ":443": http.HandlerFunc(swallow), resolver + ":443": http.HandlerFunc(swallow), metadata + ":80": http.HandlerFunc(swallow),
		registry + ":80": packages(), "127.0.0.1:8080": http.HandlerFunc(swallow),
	} {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listen at %s: %w", address, err)
		}
		w.servers = append(w.servers, listener)
		server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Second}
		go func() { _ = server.Serve(listener) }()
	}
	return w, w.tools(ctx)
}

// tools compiles what attacks need, where there is a compiler.
func (w *world) tools(ctx context.Context) error {
	script, err := agentScript()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(w.dir, "agent.sh"), []byte(script), 0o600); err != nil {
		return err
	}
	if compiler, _ := exec.LookPath("cc"); compiler == "" {
		return nil // the sessions say what they need
	}
	_, here, _, _ := runtime.Caller(0)
	source := filepath.Join(filepath.Dir(here), "tools", "evade.c")
	out, err := exec.CommandContext(ctx, "cc", "-O1", "-static", "-pthread", "-o", filepath.Join(w.dir, "evade"), source).CombinedOutput()
	if err != nil {
		return fmt.Errorf("compile the tools: %w: %s", err, out)
	}
	return nil
}

func (w *world) leave() {
	for _, s := range w.servers {
		_ = s.Close()
	}
	_ = os.RemoveAll(w.dir)
}

// swallow takes whatever comes.
func swallow(rw http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, http.MaxBytesReader(rw, r.Body, 64<<20))
	_, _ = io.WriteString(rw, "thank you\n")
}

// packages serves scripts and a program.
func packages() http.Handler {
	mux := http.NewServeMux()
	text := func(s string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, s) }
	}
	mux.Handle("/install.sh", text("sleep 0.1\ntrue\n"))
	mux.Handle("/install.py", text("pass\n"))
	mux.HandleFunc("/true", func(rw http.ResponseWriter, r *http.Request) { http.ServeFile(rw, r, "/bin/true") })
	return mux
}

// assetFiles is how many files the project has that no session made.
const assetFiles = 350

// home makes a fake developer's home directory, whose project has so many assets. It is not in a temporary directory: nobody's home is.
func home(assets int) (string, error) {
	if err := os.MkdirAll("/home", 0o755); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("/home", "corpus-")
	if err != nil {
		return "", err
	}
	for name, content := range map[string]string{
		".ssh/id_ed25519":    "-----BEGIN OPENSSH PRIVATE KEY-----\nnot a key, but as long as one: 0123456789012345678901234567890123456789012345\n-----END OPENSSH PRIVATE KEY-----\n",
		".aws/credentials":   "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = not-a-secret-but-as-long-as-one-is-0123456789\n",
		".codex/config.toml": "model = \"x\"\n", ".claude/settings.json": "{}\n", ".bashrc": "# start\n",
		"work/main.go": "package main\n\nfunc main() { println(greet()) }\n\nfunc greet() string { return \"hello\" }\n",
		"work/go.mod":  "module example.com/work\n\ngo 1.21\n", "work/AGENTS.md": "Be careful.\n", "work/.gitignore": ".env\n", "work/.env": "TOKEN=not-a-secret\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return dir, err
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			return dir, err
		}
	}
	// The agent's own program: what it is called is all that tells it from a shell.
	shell, err := os.ReadFile("/bin/bash")
	if err != nil {
		return dir, err
	}
	if err := os.MkdirAll(filepath.Join(dir, ".local/bin"), 0o755); err != nil {
		return dir, err
	}
	if err := os.WriteFile(filepath.Join(dir, ".local/bin/codex"), shell, 0o755); err != nil { //nolint:gosec // a program
		return dir, err
	}
	for i := range assets {
		file := filepath.Join(dir, "work/assets", fmt.Sprintf("part%03d.txt", i))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return dir, err
		}
		if err := os.WriteFile(file, []byte("text\n"), 0o600); err != nil {
			return dir, err
		}
	}
	return dir, nil
}
