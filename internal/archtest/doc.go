// SPDX-License-Identifier: Apache-2.0

// Package archtest holds the code to docs/architecture.md: every rule is a test, with its reason.
//
// It must not contain code that anything else uses.
package archtest
