// SPDX-License-Identifier: Apache-2.0

// Package policy says what a session may touch and reach: which paths are secrets, configuration or
// ordinary files, and which destinations are allowed.
//
// It owns the pattern language of paths (pattern.go), the built-in lists of files (lists.go), the
// allow-list of destinations (network.go) and the value in force that a reload swaps (live.go).
//
// It must not do I/O, keep state of what happened, decide what is worth a finding (detectors do), or
// import anything but event and the standard library. Everything is compiled once, when the
// configuration is read; the questions asked per event allocate nothing.
package policy
