// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// dummyKey stands where the agents insist on a key. The scripted model never looks at it.
const dummyKey = "dummy-key-for-tests"

// Site is where and against what an agent runs.
type Site struct {
	// Command is the agent's program, from Cache.Command.
	Command string
	// Home is an empty directory: the agent's whole memory of who it is. Work is the project directory.
	Home, Work string
	// ModelURL is the base URL of the model, TelemetryURL of the OTLP receiver ("" for no telemetry).
	ModelURL, TelemetryURL string
	// Prompt is what the agent is told to do.
	Prompt string
}

// Launch is a command, ready to be started.
type Launch struct {
	Args []string
	Env  []string
	Dir  string
}

// Sandbox is a sandbox mode of Codex.
type Sandbox string

// The sandbox modes under test.
const (
	// DangerFullAccess runs commands as plain children of the agent.
	DangerFullAccess Sandbox = "danger-full-access"
	// WorkspaceWrite runs commands in namespaces of their own, without network, under a seccomp filter.
	WorkspaceWrite Sandbox = "workspace-write"
)

// LaunchCodex writes Codex's settings and returns how to run one prompt without anyone to ask.
func LaunchCodex(site Site, sandbox Sandbox) (Launch, error) {
	settings := fmt.Sprintf(`model = "scripted"
model_provider = "scripted"
approval_policy = "never"
check_for_update_on_startup = false

[model_providers.scripted]
name = "scripted"
base_url = %q
env_key = "SCRIPTED_MODEL_KEY"
wire_api = "responses"

[analytics]
enabled = false

[feedback]
enabled = false
`, site.ModelURL+"/v1")
	home := filepath.Join(site.Home, ".codex")
	if err := writeFile(filepath.Join(home, "config.toml"), []byte(settings)); err != nil {
		return Launch{}, fmt.Errorf("write codex's settings: %w", err)
	}
	env, err := baseEnv(site)
	if err != nil {
		return Launch{}, err
	}
	return Launch{
		// Hooks are trusted by people, of whom there are none here.
		Args: []string{
			site.Command, "exec", "--skip-git-repo-check", "--dangerously-bypass-hook-trust", "--sandbox", string(sandbox), site.Prompt,
		},
		Env: append(env, "CODEX_HOME="+home, "SCRIPTED_MODEL_KEY="+dummyKey),
		Dir: site.Work,
	}, nil
}

// LaunchClaudeCode writes Claude Code's settings and returns how to run Claude Code for one prompt without anyone to ask. With a
// TelemetryURL it traces its tool calls and hands each command the trace context of its call.
func LaunchClaudeCode(site Site) (Launch, error) {
	env, err := baseEnv(site)
	if err != nil {
		return Launch{}, err
	}
	home := filepath.Join(site.Home, ".claude")
	if site.TelemetryURL != "" {
		// In the settings and not in the environment: Watchglass itself heeds the OTEL_ variables it is started with.
		settings := map[string]any{"env": map[string]string{
			"CLAUDE_CODE_ENABLE_TELEMETRY":        "1",
			"CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1",
			// Unless told so, trace context goes to commands only when the model is the vendor's own.
			"CLAUDE_CODE_PROPAGATE_TRACEPARENT": "1",
			"OTEL_TRACES_EXPORTER":              "otlp",
			"OTEL_TRACES_EXPORT_INTERVAL":       "200",
			"OTEL_EXPORTER_OTLP_PROTOCOL":       "http/json",
			"OTEL_EXPORTER_OTLP_ENDPOINT":       site.TelemetryURL,
		}}
		text, err := json.MarshalIndent(settings, "", "  ")
		if err != nil {
			return Launch{}, fmt.Errorf("encode claude's settings: %w", err)
		}
		if err := writeFile(filepath.Join(home, "settings.json"), text); err != nil {
			return Launch{}, fmt.Errorf("write claude's settings: %w", err)
		}
	}
	env = append(env,
		"ANTHROPIC_BASE_URL="+site.ModelURL,
		"ANTHROPIC_API_KEY="+dummyKey,
		"CLAUDE_CONFIG_DIR="+home,
		"CLAUDE_CODE_TMPDIR="+tempDir(site),
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
		"DISABLE_AUTOUPDATER=1",
		// Skipping permissions as root is refused without this word that the agent is in a sandbox.
		"IS_SANDBOX=1",
	)
	return Launch{
		Args: []string{
			site.Command, "--print", "--dangerously-skip-permissions", "--strict-mcp-config",
			"--model", "claude-sonnet-4-5", site.Prompt,
		},
		Env: env,
		Dir: site.Work,
	}, nil
}

// LaunchGeminiCLI writes Gemini CLI's settings and returns how to run one prompt without anyone to ask.
func LaunchGeminiCLI(site Site) (Launch, error) {
	settings := map[string]any{
		"security": map[string]any{"auth": map[string]any{"selectedType": "gemini-api-key"}},
		"general":  map[string]any{"enableAutoUpdate": false, "enableAutoUpdateNotification": false},
		"privacy":  map[string]any{"usageStatisticsEnabled": false},
	}
	if err := writeJSON(filepath.Join(site.Home, ".gemini", "settings.json"), settings); err != nil {
		return Launch{}, fmt.Errorf("write gemini's settings: %w", err)
	}
	env, err := baseEnv(site)
	if err != nil {
		return Launch{}, err
	}
	return Launch{
		Args: []string{site.Command, "--prompt", site.Prompt, "--yolo", "--model", "gemini-2.5-flash"},
		Env:  append(env, "GEMINI_API_KEY="+dummyKey, "GOOGLE_GEMINI_BASE_URL="+site.ModelURL, "GEMINI_CLI_TRUST_WORKSPACE=true"),
		Dir:  site.Work,
	}, nil
}

// LaunchOpenCode writes opencode's settings and returns how to run one prompt without anyone to ask. It sends
// telemetry to TelemetryURL, which it takes from its environment alone.
func LaunchOpenCode(site Site) (Launch, error) {
	settings := map[string]any{
		"autoupdate": false, "share": "disabled", "model": "scripted/scripted",
		"provider": map[string]any{"scripted": map[string]any{
			"npm": "@ai-sdk/openai-compatible", "name": "Scripted",
			"options": map[string]any{"baseURL": site.ModelURL + "/v1", "apiKey": dummyKey},
			"models": map[string]any{"scripted": map[string]any{
				"name": "Scripted", "tool_call": true, "limit": map[string]any{"context": 100000, "output": 4096},
			}},
		}},
		// The last one is for a model that says the same twice, which a script may want to.
		"permission": map[string]any{"bash": "allow", "edit": "allow", "doom_loop": "allow"},
	}
	if err := writeJSON(filepath.Join(site.Home, ".config", "opencode", "opencode.json"), settings); err != nil {
		return Launch{}, fmt.Errorf("write opencode's settings: %w", err)
	}
	env, err := baseEnv(site)
	if err != nil {
		return Launch{}, err
	}
	env = append(env, "OPENCODE_DISABLE_AUTOUPDATE=1", "OPENCODE_DISABLE_MODELS_FETCH=1", "OPENCODE_DISABLE_DEFAULT_PLUGINS=1",
		"OPENCODE_DISABLE_LSP_DOWNLOAD=1")
	if site.TelemetryURL != "" {
		env = append(env, "OTEL_EXPORTER_OTLP_ENDPOINT="+site.TelemetryURL)
	}
	return Launch{Args: []string{site.Command, "run", site.Prompt}, Env: env, Dir: site.Work}, nil
}

// SetUp has watchglass write the agent's configuration, over what Launch wrote: `watchglass agents setup NAME`.
func (l *Launch) SetUp(ctx context.Context, watchglass, name string, flags ...string) error {
	command := exec.CommandContext(ctx, watchglass, append([]string{"agents", "setup", name, "--write"}, flags...)...)
	command.Env, command.Dir = l.Env, l.Dir
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("set up %s: %w: %s", name, err, strings.TrimSpace(string(output)))
	}
	return nil
}

// baseEnv is the environment that every agent gets. Nothing is inherited: the test may itself be run by
// an agent, whose variables would then be taken for those of the agent under test.
func baseEnv(site Site) ([]string, error) {
	if err := os.MkdirAll(tempDir(site), 0o755); err != nil {
		return nil, fmt.Errorf("make the agent's temporary directory: %w", err)
	}
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + site.Home,
		"TMPDIR=" + tempDir(site),
		"SHELL=/bin/bash",
		"LANG=C.UTF-8",
		"TERM=dumb",
	}, nil
}

// tempDir keeps temporary files with the rest of the run. It must not contain Home: Codex keeps its
// helpers out of a home that is below the temporary directory.
func tempDir(site Site) string { return filepath.Join(site.Home, "tmp") }

func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, text)
}

func writeFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}
