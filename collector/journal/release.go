// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/replace"
)

// resentName is the file of what of the quarantine was sent again since.
const resentName = "resent.jsonl"

// maxQuarantineLine bounds a line of the quarantine: an event of the largest size, in base64, with a long reason.
const maxQuarantineLine = 2*maxRecord + 1<<20

// Event is the event in quarantine, but for its time, which only its record tells.
func (q *Quarantine) Event() event.Encoded {
	return event.Encoded{
		Seq: q.Seq, Instance: q.Instance, Kind: q.Kind, Severity: q.Severity, Sandbox: q.Sandbox, Session: q.Session,
		Resource: q.Resource, Record: q.Record,
	}
}

// Name is what tells one event of the quarantine from another.
func (q *Quarantine) Name() string { return fmt.Sprintf("%s %s-%d", q.Destination, q.Instance, q.Seq) }

// ReadQuarantine gives the events that destinations of the journal in dir rejected, the oldest first. A collector may
// write it meanwhile. It returns how many lines it could not read.
func ReadQuarantine(dir string, each func(*Quarantine) error) (malformed int, err error) {
	for _, name := range []string{quarantineName + ".old", quarantineName} {
		n, err := readLines(filepath.Join(dir, name), func(line []byte) error {
			var q Quarantine
			if err := json.Unmarshal(line, &q); err != nil {
				return errMalformed
			}
			return each(&q)
		})
		malformed += n
		if err != nil {
			return malformed, fmt.Errorf("read the quarantine: %w", err)
		}
	}
	return malformed, nil
}

// errMalformed is a line that is none of the file's.
var errMalformed = errors.New("malformed")

// readLines gives the whole lines of a file, without their ends, and counts those that are malformed. A file that is
// not there has none; what is behind the last end is being written.
func readLines(path string, each func(line []byte) error) (malformed int, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err //nolint:wrapcheck // the caller's words follow
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewReaderSize(file, 64<<10)
	for {
		line, err := readLine(lines)
		switch {
		case errors.Is(err, io.EOF):
			return malformed, nil
		case errors.Is(err, errMalformed):
			malformed++
			continue
		case err != nil:
			return malformed, err
		}
		if err := each(line); errors.Is(err, errMalformed) {
			malformed++
		} else if err != nil {
			return malformed, err
		}
	}
}

// readLine reads a line that is not longer than one can be; of a longer one it says that it is malformed.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for long := false; ; {
		part, err := r.ReadSlice('\n')
		if long = long || len(line)+len(part) > maxQuarantineLine; !long {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return nil, err //nolint:wrapcheck // the caller's words follow
		case long:
			return nil, errMalformed
		}
		return bytes.TrimSuffix(line, []byte("\n")), nil
	}
}

// Resent is what of the quarantine was sent again. It is one process's at a time.
type Resent struct {
	dir  string
	lock *os.File
	// at is when, by Quarantine.Name.
	at map[string]time.Time
}

type resentLine struct {
	Name string    `json:"name"`
	Time time.Time `json:"time"`
}

// ReadResent is when each event of the quarantine of the journal in dir was sent again, by Quarantine.Name.
func ReadResent(dir string) (map[string]time.Time, error) {
	at := map[string]time.Time{}
	_, err := readLines(filepath.Join(dir, resentName), func(line []byte) error {
		var l resentLine
		if err := json.Unmarshal(line, &l); err != nil {
			return errMalformed
		}
		at[l.Name] = l.Time
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what was sent again: %w", err)
	}
	return at, nil
}

// OpenResent makes this process the one that sends what is in the quarantine of the journal in dir.
func OpenResent(dir string) (*Resent, error) {
	lock, err := os.OpenFile(filepath.Join(dir, resentName+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open what was sent again: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is being sent again by another process: %w", dir, err), lock.Close())
	}
	at, err := ReadResent(dir)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &Resent{dir: dir, lock: lock, at: at}, nil
}

// At is when an event was sent again; zero when it was not.
func (r *Resent) At(q *Quarantine) time.Time { return r.at[q.Name()] }

// Note says that an event was sent again now.
func (r *Resent) Note(q *Quarantine) { r.at[q.Name()] = time.Now().UTC() }

// Close writes what was noted, but of what is in the quarantine no more, and lets others.
func (r *Resent) Close() error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	written := map[string]bool{}
	_, err := ReadQuarantine(r.dir, func(q *Quarantine) error {
		at, ok := r.at[q.Name()]
		if !ok || written[q.Name()] {
			return nil
		}
		written[q.Name()] = true
		return encoder.Encode(resentLine{q.Name(), at})
	})
	if err == nil {
		err = replace.File(filepath.Join(r.dir, resentName), text.Bytes(), 0o600)
	}
	return errors.Join(err, r.lock.Close())
}
