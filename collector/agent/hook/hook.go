// SPDX-License-Identifier: Apache-2.0

// Package hook is the second channel of claims: agents run `watchglass hook` before and after what they do, and
// that hands what it was told to the collector over a unix socket.
//
// It owns the socket, the frames on it, and who is at the other end: the process that connected, from the kernel,
// and the agent that started it. It must not look into what is said (package agent does) nor keep any of it. All
// that comes over the socket is hostile.
package hook

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/collector/unixsocket"
)

// MaxInput bounds what one hook says, in bytes. `watchglass hook` shortens what is longer (see Shorten), so that
// it is the sandbox's processor that pays for it.
const MaxInput = 64 << 10

const (
	// magic begins a frame and names its version.
	magic = "WGH1"
	// maxName bounds the name of an agent.
	maxName = 32
	// headerSize is magic, the length of the name in one byte, the length of the input in four.
	headerSize = len(magic) + 1 + 4
)

// Status is the collector's answer to a frame, in one byte.
type Status byte

// The answers.
const (
	// Taken means that the statement is in, or that its event says nothing.
	Taken Status = 'T'
	// Refused means that this sandbox says too much.
	Refused Status = 'R'
	// Malformed means that the frame or the input in it cannot be read.
	Malformed Status = 'M'
)

func (s Status) String() string {
	switch s {
	case Taken:
		return "taken"
	case Refused:
		return "refused: this sandbox says more than it may"
	case Malformed:
		return "malformed"
	}
	return fmt.Sprintf("unknown answer %q", byte(s))
}

// Frame is what one hook says.
type Frame struct {
	// Agent is the adapter's name that the hook was set up for; "" when not known.
	Agent string
	// Input is what the agent wrote to the hook's standard input.
	Input []byte
}

var (
	errFrame    = errors.New("not a frame of a hook")
	errTooLarge = fmt.Errorf("larger than %d bytes", MaxInput)
)

// Append appends the frame as it goes over the socket.
func (f *Frame) Append(dst []byte) ([]byte, error) {
	if len(f.Agent) > maxName {
		return dst, fmt.Errorf("the agent's name: %d bytes, at most %d", len(f.Agent), maxName)
	}
	if len(f.Input) > MaxInput {
		return dst, errTooLarge
	}
	dst = append(append(dst, magic...), byte(len(f.Agent)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(f.Input)))
	return append(append(dst, f.Agent...), f.Input...), nil
}

// ReadFrame reads one frame. It reads no more than a frame may hold.
func ReadFrame(r io.Reader) (Frame, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return Frame{}, fmt.Errorf("read the header of a frame: %w", err)
	}
	name, size := int(header[len(magic)]), binary.BigEndian.Uint32(header[len(magic)+1:])
	if string(header[:len(magic)]) != magic || name > maxName {
		return Frame{}, errFrame
	}
	if size > MaxInput {
		return Frame{}, errTooLarge
	}
	body := make([]byte, name+int(size))
	if _, err := io.ReadFull(r, body); err != nil {
		return Frame{}, fmt.Errorf("read a frame: %w", err)
	}
	return Frame{Agent: string(body[:name]), Input: body[name:]}, nil
}

// Config is the socket.
type Config struct {
	// Path is where the socket is made; "" for no socket. Its directory is made when it is missing, and is what to
	// mount into a container: the socket itself is a new file after every start.
	Path string `yaml:"path"`
	// Mode is the socket's permissions in octal: who may write to it may speak.
	Mode string `yaml:"mode"`
	// Rate is how many statements a second each sandbox may make, Burst how many at once.
	Rate  int `yaml:"rate"`
	Burst int `yaml:"burst"`
}

// DefaultPath is where hooks look for the socket unless told otherwise.
const DefaultPath = "/run/watchglass/agent/hook.sock"

// Validate says what is wrong with the settings; the error begins with the setting's name.
func (c *Config) Validate() error {
	if c.Path == "" {
		return nil
	}
	if err := unixsocket.Check(c.Path); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	if _, err := c.mode(); err != nil {
		return err
	}
	if c.Rate < 1 || c.Rate > 100_000 {
		return fmt.Errorf("rate: %d is not between 1 and 100000", c.Rate)
	}
	if c.Burst < 1 || c.Burst > 100_000 {
		return fmt.Errorf("burst: %d is not between 1 and 100000", c.Burst)
	}
	return nil
}

// Settings is what a server is given besides its Config. All but Options must be set.
type Settings struct {
	// Sandbox is the cgroup id of the watched sandbox that a process is in, 0 for none. It must be quick: it is
	// asked for each connection.
	Sandbox func(pid uint32) uint64
	// Claim takes the statements. It may be called from several goroutines and must not block.
	Claim   func(*agent.Statement)
	Logger  *slog.Logger
	Options agent.HookOptions
}

// Stats counts what came over the socket since the start.
type Stats struct {
	// Taken is statements; Ignored is events that say nothing of a session.
	Taken, Ignored uint64
	// Malformed could not be read, Late did not arrive in time, Refused was beyond the rate of its sandbox or beyond
	// what is served at once.
	Malformed, Late, Refused uint64
	// Unattributed is those of Taken whose sender could not be found.
	Unattributed uint64
}

// How long the collector waits for a frame, and how much it serves at once.
const (
	frameTimeout  = 500 * time.Millisecond
	maxOpen       = 128
	maxPerSandbox = 16
	// maxLimits bounds the sandboxes whose rates are remembered; the one that was silent longest goes first.
	maxLimits = 4096
)
