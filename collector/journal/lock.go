// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// owner is who writes a journal: what its lock file says.
type owner struct {
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	Instance string    `json:"instance"`
}

// LockedError says that another process writes the journal.
type LockedError struct {
	Dir string
	// PID and Started are the other process's and when it opened the journal; zero when it did not say.
	PID     int
	Started time.Time
}

// Error implements error.
func (e *LockedError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = fmt.Sprintf("process %d, since %s", e.PID, e.Started.Format(time.RFC3339))
	}
	return fmt.Sprintf("the journal %s is written by %s: stop it, or give this one a folder of its own", e.Dir, who)
}

const (
	lockTries = 5
	lockPause = 10 * time.Millisecond
)

// lock makes this process the only writer until the file is closed, also by its end.
func lock(dir string, me owner) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the journal: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for range lockTries { // who asks whether it is locked has it locked for a moment
		if !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(lockPause)
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		other := readOwner(file)
		_ = file.Close()
		return nil, &LockedError{Dir: dir, PID: other.PID, Started: other.Started}
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock the journal: %w", err)
	}
	// Who it is helps people, but is not what locks: a full disk must not keep the journal shut.
	if text, err := json.Marshal(me); err == nil && file.Truncate(0) == nil {
		_, _ = file.WriteAt(append(text, '\n'), 0)
	}
	return file, nil
}

func readOwner(file io.ReaderAt) owner {
	var who owner
	text, _ := io.ReadAll(io.NewSectionReader(file, 0, 4096))
	if json.Unmarshal(text, &who) != nil {
		return owner{}
	}
	return who
}

// lockHeld says whether a process writes the journal now.
func lockHeld(dir string) bool {
	file, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	return errors.Is(unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// Writer is the process that writes the journal in a folder now, 0 when none does. One that does not say who it
// is, is -1.
func Writer(dir string) int {
	if !lockHeld(dir) {
		return 0
	}
	file, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return -1
	}
	defer func() { _ = file.Close() }()
	if pid := readOwner(file).PID; pid > 0 {
		return pid
	}
	return -1
}

// Size is how many bytes the lanes of the journal in a folder take; 0 when there is none.
func Size(dir string) int64 {
	size := int64(0)
	for lane := range Lane(lanes) {
		segments, _ := listSegments(dir, lane) // what cannot be read takes nothing
		for i := range segments {
			if info, err := os.Stat(segments[i].path); err == nil {
				size += info.Size()
			}
		}
	}
	return size
}
