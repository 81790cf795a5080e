// SPDX-License-Identifier: Apache-2.0

// Package unixsocket makes the sockets in the file system that the collector listens on.
//
// It owns who may be in the way of one: a socket that a crash left behind is removed, a collector that still listens
// is not, and nobody but root and the collector's user may put another in its place. It must not know what is spoken
// over it.
package unixsocket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// MaxPath is how long the path of a socket may be in bytes: what fits into its address, with the final NUL.
const MaxPath = 107

// inUse bounds the wait for whoever listens at a path already.
const inUse = time.Second

// Check says what is wrong with the path of a socket, or nil.
func Check(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return fmt.Errorf("%q is no absolute path without dots", path)
	}
	if len(path) > MaxPath {
		return fmt.Errorf("a socket's path is at most %d bytes, not %d", MaxPath, len(path))
	}
	return nil
}

// Listen makes a socket with a mode, and its directory when there is none. Closing the listener removes it. Its error
// names the path and what to do about it; it is syscall.EADDRINUSE where another process listens there.
func Listen(path string, mode fs.FileMode) (*net.UnixListener, error) {
	if err := prepare(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	// Whoever connects before this is asked for its credentials all the same.
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("set the socket's mode: %w", err), l.Close())
	}
	return l, nil
}

func prepare(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the socket's directory: %w", err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	// Whoever can write there can put a socket of its own in the place of this one, and hear what is meant for it.
	if uid := os.Geteuid(); st.Uid != 0 && int(st.Uid) != uid || st.Mode&0o022 != 0 && st.Mode&syscall.S_ISVTX == 0 {
		return fmt.Errorf("directory %s can be written to by others: its owner must be root, or mode 0755 be set", dir)
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s is there already and is no socket", path)
	}
	if c, err := net.DialTimeout("unix", path, inUse); err == nil {
		_ = c.Close()
		return fmt.Errorf("%s: another collector listens there: %w", path, syscall.EADDRINUSE)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the socket that was left: %w", err)
	}
	return nil
}
