// SPDX-License-Identifier: Apache-2.0

// Package adversary is what a sandbox tries in order to act unseen, each executed under the real binary, and the event or
// finding that tells of it all the same.
//
// It owns one table (table_test.go) with every way that is known, and the comparison. What truly evades stands there too, as a
// limit that the documentation names: the test fails when it no longer does. It must not look at how anything is
// seen: an attempt fails by what the stream of events says of it.
package adversary
