// SPDX-License-Identifier: Apache-2.0

// Package rules runs detectors that are written as text: conditions in CEL in an envelope of YAML, with
// operators over time, exceptions and their own tests. Built-in rules without state of their own kind are
// written in the same format, in builtin/.
//
// It owns the format (document.go), the language of conditions (language.go), what is decided without CEL
// (guard.go), what rules remember (state.go) and the engine that runs them (engine.go). All of it is bounded:
// files, rules, the cost of an evaluation, groups, partial sequences. A bad file is refused with its line
// and a reason, and what was in force stays.
//
// It must not do I/O beyond reading from the file systems it is given, start goroutines or read a clock: time
// is the events'.
package rules
