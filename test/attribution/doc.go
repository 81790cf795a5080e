// SPDX-License-Identifier: Apache-2.0

// Package attribution measures how well Watchglass knows which tool call a process works for: real agents play
// scripts of calls, each of which leaves marks, and what the program says of who left a mark is compared with who did.
//
// It owns the scripts, the truth and the score. The truth comes from the marks themselves, which are files whose names
// the script, or the command's own output, ties to a call; never from what is under test. It must not import the
// program's packages: it reads what the program writes.
package attribution
