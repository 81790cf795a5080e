// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/watchglass/watchglass/event"
)

type fakeSource struct{ asked string }

func (*fakeSource) Sessions() []event.SessionView {
	return []event.SessionView{{ID: "a", Agent: "codex"}, {ID: "b"}}
}

func (f *fakeSource) Session(id string) []event.SessionView {
	f.asked = id
	if id == "none" {
		return nil
	}
	return []event.SessionView{{ID: id, Turns: []event.TurnView{{Prompt: "x\x1b[2J\xff"}}}}
}

func open(t *testing.T, source Source) (*Server, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	s, err := Open(Config{Enabled: true, Path: path}, Settings{Source: source, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Error(err)
		}
	})
	return s, path
}

func TestAsk(t *testing.T) {
	source := &fakeSource{}
	_, path := open(t, source)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	client := NewClient(path)
	all, err := client.Sessions(t.Context())
	if err != nil || len(all) != 2 || all[0].Agent != "codex" {
		t.Errorf("%+v, %v", all, err)
	}
	for _, id := range []string{"s-1", "session########0", "../x/y", "a b?c=d"} {
		one, err := client.Session(t.Context(), id)
		if err != nil || source.asked != id || len(one) != 1 || len(one[0].Turns) != 1 {
			t.Errorf("%q: asked for %q, %+v, %v", id, source.asked, one, err)
		}
	}
	if none, err := client.Session(t.Context(), "none"); err != nil || len(none) != 0 {
		t.Errorf("%+v, %v", none, err)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	s, _ := open(t, &fakeSource{})
	for _, test := range []struct {
		who  any
		want int
	}{
		{credentials{uid: 0, known: true}, http.StatusOK},
		{credentials{uid: s.user, known: true}, http.StatusOK},
		{credentials{uid: s.user + 1, known: true}, http.StatusForbidden},
		{credentials{uid: 0}, http.StatusForbidden}, // the kernel did not say
		{nil, http.StatusForbidden},
	} {
		r := httptest.NewRequest(http.MethodGet, "/v1/sessions", http.NoBody)
		r = r.WithContext(context.WithValue(r.Context(), callerKey{}, test.who))
		w := httptest.NewRecorder()
		s.server.Handler.ServeHTTP(w, r)
		if w.Code != test.want {
			t.Errorf("%+v: %d, want %d", test.who, w.Code, test.want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	s := Settings{Source: &fakeSource{}, Logger: slog.New(slog.DiscardHandler)}
	_, path := open(t, s.Source)
	if _, err := Open(Config{Enabled: true, Path: path}, s); err == nil || !strings.Contains(err.Error(), "another collector") {
		t.Errorf("a socket in use: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Enabled: true, Path: file}, s); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file: %v", err)
	}
	writable := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(writable, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(writable, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Enabled: true, Path: writable + "/s"}, s); err == nil || !strings.Contains(err.Error(), "written to by others") {
		t.Errorf("a directory that others write to: %v", err)
	}
	// One that a crash left behind is replaced.
	left := filepath.Join(t.TempDir(), "left")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: left, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	again, err := Open(Config{Enabled: true, Path: left}, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	for _, path := range []string{"", "relative", "/" + strings.Repeat("x", 200)} {
		if (Config{Enabled: true, Path: path}).Validate() == nil {
			t.Errorf("%q is accepted", path)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	_, err := NewClient(filepath.Join(t.TempDir(), "none")).Sessions(t.Context())
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
