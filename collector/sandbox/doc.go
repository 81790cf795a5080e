// SPDX-License-Identifier: Apache-2.0

// Package sandbox says which cgroups are sandboxes.
//
// It owns the way from the cgroup2 mount (mount.go) and the selectors of the configuration
// (selector.go) to the sandboxes being watched (registry.go), and the cgroup that `watchglass run`
// makes for a session (leaf.go).
//
// It must not follow processes (package process does), read records or the configuration file, or
// change any cgroup but the ones it made itself. Names of cgroups come from sandboxes as well: they
// are matched and compared, never interpreted, and never joined to a path that is then written to.
package sandbox
