// SPDX-License-Identifier: Apache-2.0

package agent

// openCode is opencode. Its tools' processes know only that they are its. Seen with opencode 1.18.33.
func openCode() Adapter {
	return Adapter{
		Name:        "opencode",
		Executables: []string{"opencode"},
		Marks:       []string{"OPENCODE"},
	}
}
