// SPDX-License-Identifier: Apache-2.0

// Package bpf is the kernel boundary: BPF C, its generated Go, the loader and the decoder.
//
// It owns what is seen of the kernel: which hooks, which records, which clock. It is the only
// importer of cilium/ebpf, and decode.go the only user of unsafe. It must not keep state about
// processes or sandboxes beyond what scoping in the kernel needs, nor know who reads its records.
package bpf

//go:generate go run ../internal/genbpf
//go:generate go run ../internal/gensyscalls syscall_names
