// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// maxRead bounds what is read of a hook's input before it is shortened.
const maxRead = 16 << 20

// Send reads a hook's input, hands it to the collector at the socket and waits for its answer, until the deadline.
func Send(socket, name string, input io.Reader, deadline time.Time) (Status, error) {
	text, err := io.ReadAll(io.LimitReader(input, maxRead+1))
	if err != nil {
		return 0, fmt.Errorf("read the input: %w", err)
	}
	if len(text) > MaxInput {
		if text, err = Shorten(text); err != nil {
			return 0, err
		}
	}
	frame, err := (&Frame{Agent: name, Input: text}).Append(nil)
	if err != nil {
		return 0, err
	}
	connection, err := dial(socket, deadline)
	if err != nil {
		return 0, err
	}
	defer connection.Close() //nolint:errcheck // everything is said
	if err := connection.SetDeadline(deadline); err != nil {
		return 0, err
	}
	// A collector that refuses answers without reading, and closes.
	_, writeErr := connection.Write(frame)
	var answer [1]byte
	if _, err := io.ReadFull(connection, answer[:]); err != nil {
		return 0, fmt.Errorf("wait for the answer: %w", errors.Join(writeErr, err))
	}
	return Status(answer[0]), nil
}

// dial connects. A socket whose queue is full says EAGAIN, and has room a moment later.
func dial(socket string, deadline time.Time) (net.Conn, error) {
	const pause = 2 * time.Millisecond
	for {
		connection, err := net.DialTimeout("unix", socket, time.Until(deadline))
		if err == nil || !errors.Is(err, syscall.EAGAIN) || time.Until(deadline) < pause {
			return connection, err
		}
		time.Sleep(pause)
	}
}

// longText is the most that a text keeps in an input that is shortened.
const longText = 8 << 10

// Shorten makes a hook's input fit into a frame: long texts are cut, other long values go, but for what a tool is
// asked: that is treated alike inside.
func Shorten(input []byte) ([]byte, error) {
	if len(input) > maxRead {
		return nil, fmt.Errorf("shorten the input: larger than %d bytes", maxRead)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(input, &fields); err != nil {
		return nil, fmt.Errorf("shorten the input: %w", err)
	}
	var arguments map[string]json.RawMessage
	if json.Unmarshal(fields["tool_input"], &arguments) == nil {
		short, err := json.Marshal(shortened(arguments))
		if err != nil {
			return nil, fmt.Errorf("shorten the input: %w", err)
		}
		fields["tool_input"] = short
	}
	output, err := json.Marshal(shortened(fields))
	if err == nil && len(output) > MaxInput {
		err = errTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("shorten the input: %w", err)
	}
	return output, nil
}

// shortened cuts long texts and leaves other long values out.
func shortened(fields map[string]json.RawMessage) map[string]json.RawMessage {
	for name, value := range fields {
		if len(value) <= longText {
			continue
		}
		var text string
		if json.Unmarshal(value, &text) != nil {
			if name != "tool_input" {
				delete(fields, name)
			}
			continue
		}
		if short, err := json.Marshal(strings.ToValidUTF8(text[:min(len(text), longText/2)], "")); err == nil {
			fields[name] = short
		}
	}
	return fields
}
