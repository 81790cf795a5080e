// SPDX-License-Identifier: Apache-2.0

// Package corpus is labelled sessions, attacks and benign work, each executed for real in a sandbox under the real
// binary, and the comparison of what was found with what should have been.
//
// It owns the sessions (sessions/attack, sessions/benign), the small world in which they run (a network namespace of
// its own with servers on addresses of loopback) and the account. Every session is a shell script; its first comment
// says what it does, "# finds:" which rules must find it, "# tells:" what the title of one must hold, "# over:" which must
// say that it is over, "# like:" to which benign work looks, "# needs:" which commands it needs, "# run:" with which
// flags, "# detectors:" with which settings of theirs, "# learns:" how often it is rehearsed before, to teach what is
// usual, "# takes:" about how long it takes, where that is long, "# waits:" whether it does little but wait then. It must not
// look at how a detector works: a session counts by its effects.
package corpus
