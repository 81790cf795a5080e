/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The boot clock where a few milliseconds do not matter.
 *
 * Owns one reading of the clock for each of the kernel's ticks and CPU. It must not be used for what is compared with
 * another time, or subtracted.
 *
 * Why: reading the clock takes as long as finding what is counted. The tick (bpf_jiffies64) is a load, since 5.6.
 */
#ifndef WATCHGLASS_TICK_H
#define WATCHGLASS_TICK_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

/* tick is one of the kernel's, and when it was first seen on this CPU. */
struct tick {
	__u64 jiffies;
	__u64 time;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tick);
} ticks SEC(".maps");

/* tick_time is the boot clock, late by a tick at most. */
static __always_inline __u64 tick_time(void)
{
	__u64 jiffies = bpf_jiffies64();
	__u32 zero = 0;
	struct tick *tick = bpf_map_lookup_elem(&ticks, &zero);

	if (!tick)
		return bpf_ktime_get_boot_ns();
	if (tick->jiffies != jiffies) {
		tick->time = bpf_ktime_get_boot_ns();
		tick->jiffies = jiffies;
	}
	return tick->time;
}

#endif
