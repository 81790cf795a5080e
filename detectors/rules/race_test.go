// SPDX-License-Identifier: Apache-2.0

//go:build race

package rules

// raceDetector says that the race detector watches, which makes everything ten times as slow.
const raceDetector = true
