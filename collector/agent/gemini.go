// SPDX-License-Identifier: Apache-2.0

package agent

// geminiCLI is Google's Gemini CLI. Its tools' processes know only that they are its; its hooks know
// the session too. Seen with gemini-cli 0.61.0.
func geminiCLI() Adapter {
	return Adapter{
		Name:        "gemini-cli",
		Executables: []string{"gemini"},
		Marks:       []string{"GEMINI_CLI"},
		Session:     "GEMINI_SESSION_ID",
	}
}
