// SPDX-License-Identifier: Apache-2.0

//go:build !race

package testenv

// RaceDetector says that the race detector watches, which makes everything ten times as slow, some values escape to the
// heap, and pools forget at random.
const RaceDetector = false
