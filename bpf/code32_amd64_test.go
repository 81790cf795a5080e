// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// machine32 is the ELF number of the machine of 32-bit programs (EM_386).
const machine32 = 3

// flags32 is what an ELF header says of such a program.
const flags32 = 0

// Numbers of 32-bit calls that differ between architectures.
const (
	compatOpenat   = 295
	compatIOSetup  = 245
	compatIOSubmit = 248
	compatMkdirat  = 296
	compatUnshare  = 310
	compatPrctl    = 172
	compatSocket   = 359
	compatConnect  = 362
)

// put32 loads the register of an argument, or that of the number behind them, with a constant.
func (c *code32) put(argument int, value uint32) {
	const number = 6
	move := []byte{0: 0xbb, 1: 0xb9, 2: 0xba, 3: 0xbe, 4: 0xbf, 5: 0xbd, number: 0xb8} // mov ebx, ecx, edx, esi, edi, ebp, eax
	c.WriteByte(move[argument])
	_ = binary.Write(c, binary.LittleEndian, value)
}

// trap makes the call that is loaded.
func (c *code32) trap() { c.Write([]byte{0xcd, 0x80}) } // int 0x80

// keep stores what the last call returned at an address.
func (c *code32) keep(address uint32) {
	c.WriteByte(0xa3) // mov [address], eax
	_ = binary.Write(c, binary.LittleEndian, address)
}

// fetch loads the first argument from an address.
func (c *code32) fetch(address uint32) {
	c.Write([]byte{0x8b, 0x1d}) // mov ebx, [address]
	_ = binary.Write(c, binary.LittleEndian, address)
}

// mapOld32 is code that maps executable memory by the old mmap, whose arguments lie in memory, and its data.
func mapOld32(arguments []uint32) (*code32, []byte) {
	var c code32
	var data []byte
	for _, word := range arguments {
		data = binary.LittleEndian.AppendUint32(data, word)
	}
	c.call(90, code32Data)
	c.exit()
	return &c, data
}

// truncate32 is the arguments of truncate64 behind the path: a length of 64 bits.
func truncate32(low, high uint32) []uint32 { return []uint32{low, high} }

// notable32 is by number: unshare is 310, with 64 bits process_vm_readv; umount2 is 52, with 64 bits getpeername; 165 is getresuid, with 64 bits mount.
func notable32() []call32 {
	return []call32{
		{compatUnshare, unix.CLONE_NEWUTS, "unshare"},
		{52, code32Data, "umount2"},
		{213, 0, "setuid32"},
		{compatPrctl, unix.PR_SET_KEEPCAPS, "prctl"},
		{compatPrctl, unix.PR_GET_KEEPCAPS, ""},
		{165, 0, ""},
	}
}
