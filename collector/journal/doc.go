// SPDX-License-Identifier: Apache-2.0

// Package journal is the one durable thing: the append-only record of every event, from which destinations
// are fed, which an auditor can verify, and in which local history is looked up.
//
// It owns the folder and every byte in it: three lanes of segment files (priority, events and spans), whose frames
// are compressed, checksummed and chained by SHA-256; the cursors of destinations; the signed checkpoints;
// and the account of what it had to give up. docs/journal.md is its format and its guarantees.
//
// One process writes, held to that by a lock; any number read without one. It must not look into the
// resources and records that it stores, nor decide what is sent where, nor believe a byte that it reads
// back: what is damaged is skipped and counted, never delivered.
package journal
