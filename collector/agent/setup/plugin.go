// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"github.com/watchglass/watchglass/collector/agent"
)

// pluginMark begins the plugin, and tells it from one of somebody else's.
const pluginMark = "// Written by `watchglass agents setup`, which also takes it out again."

// pluginText is a plugin of opencode. It puts the ids of a call into the environment of what the call runs, and hands
// each call to a command before and after, as other agents do to their hooks. It never fails a call, and waits no
// longer than the command takes. The command is started without a shell: to opencode's processes, shells are tools.
const pluginText = pluginMark + `
import { spawn } from "node:child_process"

const command = COMMAND

const tell = (event) =>
  new Promise((done) => {
    try {
      const hook = spawn(command[0], command.slice(1), { stdio: ["pipe", "ignore", "ignore"] })
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
    "shell.env": async (input, output) => {
      if (!input?.callID || !input.sessionID || !output?.env) return
      output.env.CALL = input.callID
      output.env.SESSION = input.sessionID
    },
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
			words, err := words(s.hook(adapter))
			if err != nil {
				return nil, err
			}
			command, err := json.Marshal(words)
			if err != nil {
				return nil, err
			}
			text := strings.NewReplacer(
				"COMMAND", string(command), "env.CALL", "env."+agent.OpenCodeCall, "env.SESSION", "env."+agent.OpenCodeSession,
			).Replace(pluginText)
			return []byte(text), nil
		},
		remove: func(old []byte) ([]byte, error) { return nil, ours(old) },
	}
}

// words takes a command line apart as a shell does, where nothing but quotes needs one.
func words(line string) ([]string, error) {
	var list []string
	var word strings.Builder
	begun := false
	for at := 0; at < len(line); at++ {
		switch c := line[at]; c {
		case ' ', '\t':
			if begun {
				list = append(list, word.String())
				word.Reset()
				begun = false
			}
			continue
		case '\'':
			end := strings.IndexByte(line[at+1:], '\'')
			if end < 0 {
				return nil, errors.New("hook: a quote that is not closed")
			}
			word.WriteString(line[at+1 : at+1+end])
			at += end + 1
		case '\\':
			if at++; at < len(line) {
				word.WriteByte(line[at])
			}
		default:
			word.WriteByte(c)
		}
		begun = true
	}
	if begun {
		list = append(list, word.String())
	}
	return list, nil
}

// npmSettings is for the packages that opencode fetches at its start into the directory of its configuration. With a
// plugin there it waits for them, and without a network, by npm's own settings, for more than a minute.
const npmSettings = `# Written by watchglass agents setup: opencode waits for what it fetches.
fetch-retry-mintimeout=100
fetch-retry-maxtimeout=1000
`

// npm is npm's settings for a directory, in which other settings may stand. Somebody's own of the same names stay.
func npm(path string) file {
	remove := func(old []byte) []byte {
		text := bytes.Replace(old, []byte(npmSettings), nil, 1)
		if len(text) == 0 {
			return nil
		}
		return text
	}
	return file{
		path: path,
		apply: func(old []byte, s *Settings) ([]byte, error) {
			text := remove(old)
			if s.Hook == "" || bytes.Contains(text, []byte("fetch-retry-")) {
				return text, nil
			}
			if len(text) > 0 && text[len(text)-1] != '\n' {
				text = append(bytes.Clone(text), '\n')
			}
			return append(bytes.Clone(text), npmSettings...), nil
		},
		remove: func(old []byte) ([]byte, error) { return remove(old), nil },
	}
}
