// SPDX-License-Identifier: Apache-2.0

// Package exporters holds what every exporter shares: the instruments (metrics.go, each written once,
// read by pull and by push) and the two ways of making a sandbox's bytes safe to hand on (escape.go).
// Each destination is a package of its own below this one.
//
// It owns metric names, help texts and label bounds. It must not know where events come from, nor
// send anything anywhere.
package exporters
