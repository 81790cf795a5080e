// SPDX-License-Identifier: Apache-2.0

// Package detectors reads events and reports findings: what a person should know of.
//
// It owns the table of built-in detectors (detectors.go), one file each, their bounded memory
// (internal/memory) and the words in which a finding explains itself (explain.go). Each detector has a
// timeline in testdata and a page in docs/detectors.
//
// It must not do I/O, start goroutines, read a clock (time is the events'), know where events come
// from or findings go, or import anything but event and the standard library: what a policy says is
// asked through functions that the caller provides. Everything in an event that came from a sandbox
// is its word: a name, an argument or a path decides only where the kernel vouches for it.
package detectors
