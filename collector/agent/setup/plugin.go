// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"bytes"
	"encoding/json"
	"errors"
)

// pluginMark begins the plugin, and tells it from one of somebody else's.
const pluginMark = "// Written by `watchglass agents setup`, which also takes it out again."

// pluginText is a plugin of opencode that hands each tool call to a command, as other agents do to their hooks. It
// never fails a call, and waits no longer than the command takes.
const pluginText = pluginMark + `
import { spawn } from "node:child_process"

const command = COMMAND

const tell = (event) =>
  new Promise((done) => {
    try {
      const hook = spawn("/bin/sh", ["-c", command], { stdio: ["pipe", "ignore", "ignore"] })
      hook.on("error", () => done())
      hook.on("close", () => done())
      hook.stdin.on("error", () => {})
      hook.stdin.end(JSON.stringify(event))
    } catch {
      done()
    }
  })

export const Watchglass = async ({ directory }) => {
  const call = (name, input, args) =>
    tell({
      hook_event_name: name,
      session_id: input.sessionID,
      tool_use_id: input.callID,
      tool_name: input.tool,
      tool_input: args,
      cwd: directory,
    })
  return {
    "tool.execute.before": (input, output) => call("PreToolUse", input, output?.args),
    "tool.execute.after": (input) => call("PostToolUse", input, input?.args),
  }
}
`

// plugin is a plugin's file, which is ours as a whole.
func plugin(path, adapter string) file {
	ours := func(old []byte) error {
		if old != nil && !bytes.HasPrefix(old, []byte(pluginMark)) {
			return &PositionError{Line: 1, Err: errors.New("is not the plugin that is written here")}
		}
		return nil
	}
	return file{
		path: path,
		apply: func(old []byte, s *Settings) ([]byte, error) {
			if err := ours(old); err != nil || s.Hook == "" {
				return nil, err
			}
			command, err := json.Marshal("exec " + s.hook(adapter))
			if err != nil {
				return nil, err
			}
			return bytes.Replace([]byte(pluginText), []byte("COMMAND"), command, 1), nil
		},
		remove: func(old []byte) ([]byte, error) { return nil, ours(old) },
	}
}
