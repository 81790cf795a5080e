// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/watchglass/watchglass/test/e2e/agents"
)

// An agent reads its own credentials at each start, and that is no finding. The same read by a tool is one.
func TestAgentsOwnCredentials(t *testing.T) {
	require(t)
	for _, c := range []struct {
		pkg         agents.Package
		launch      func(agents.Site) (agents.Launch, error)
		status      []string
		file, dummy string
	}{
		{
			pkg: agents.Codex(),
			launch: func(site agents.Site) (agents.Launch, error) {
				return agents.LaunchCodex(site, agents.DangerFullAccess)
			},
			status: []string{"login", "status"}, file: ".codex/auth.json", dummy: `{"OPENAI_API_KEY":"dummy"}`,
		},
		{
			pkg: agents.ClaudeCode(), launch: agents.LaunchClaudeCode,
			status: []string{"auth", "status"}, file: ".claude/.credentials.json",
			dummy: `{"claudeAiOauth":{"accessToken":"dummy","refreshToken":"dummy","expiresAt":9999999999999,"scopes":["user:inference"]}}`,
		},
	} {
		t.Run(c.pkg.Name, func(t *testing.T) {
			stage := newStage(t, c.pkg)
			launch, err := c.launch(stage.site)
			if err != nil {
				t.Fatal(err)
			}
			// With a key in the environment the agents do not look at the file.
			launch.Env = slices.DeleteFunc(launch.Env, func(v string) bool { return strings.Contains(v, "_KEY=") })
			secret := filepath.Join(stage.site.Home, c.file)
			if err := os.MkdirAll(filepath.Dir(secret), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(secret, []byte(c.dummy), 0o600); err != nil {
				t.Fatal(err)
			}
			launch.Args = append([]string{stage.site.Command}, c.status...)
			if findings := stage.findings(t, launch, secret); len(findings) != 0 {
				t.Errorf("the agent's own read is a finding: %v", findings)
			}
			launch.Args = []string{"cat", secret}
			findings := stage.findings(t, launch, secret)
			if len(findings) != 1 || findings[0].text("security_rule.name") != "secret-read" {
				t.Errorf("the findings are %v, want secret-read", findings)
			}
		})
	}
}

// findings runs a command under watchglass, makes sure that the secret was read, and returns the findings.
func (s *stage) findings(t *testing.T, launch agents.Launch, secret string) []record {
	t.Helper()
	launch, path := s.underWatchglass(t, launch)
	if ended := s.run(t, launch); ended.code != 0 {
		t.Fatalf("exit code %d:\n%s", ended.code, ended.output)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	events, err := readStream(file)
	if err != nil {
		t.Fatal(err)
	}
	reads := events.all("watchglass.file.open", func(r record) bool {
		return r.text("file.path") == secret && r.text("error.type") == "" && slices.Contains(r.list("watchglass.file.access"), "read")
	})
	if len(reads) == 0 {
		t.Fatalf("nobody read %s", secret)
	}
	// The agent runs in no sandbox here, which is said of what takes long enough.
	return events.all("watchglass.finding", func(r record) bool { return r.text("security_rule.name") != "weak-sandbox" })
}
