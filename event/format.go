// SPDX-License-Identifier: Apache-2.0

package event

import "strconv"

// AppendBytes appends a number of bytes as people read it: 1023 B, 1.5 KiB, 3.2 MiB.
func AppendBytes(dst []byte, n uint64) []byte {
	if n < 1024 {
		return append(strconv.AppendUint(dst, n, 10), " B"...)
	}
	value, unit := float64(n)/1024, 0
	units := [...]string{" KiB", " MiB", " GiB", " TiB", " PiB", " EiB"}
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	return append(strconv.AppendFloat(dst, value, 'f', 1, 64), units[unit]...)
}
