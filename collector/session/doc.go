// SPDX-License-Identifier: Apache-2.0

// Package session knows the sessions of agents: their turns and tool calls, and which processes work for which
// call, joined from what agents say and what the kernel saw.
//
// It owns the join ladder, the comparison of claims with facts, and what is remembered of a session, bounded in
// everything. It must not publish anything itself, nor read clocks: it is told what happens, in order, by one
// goroutine at a time, and hands back the events that follow.
package session
