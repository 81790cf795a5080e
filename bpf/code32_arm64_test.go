// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// machine32 is the ELF number of the machine of 32-bit programs (EM_ARM).
const machine32 = 40

// flags32 is what an ELF header says of such a program: the fifth convention.
const flags32 = 0x05000000

// Numbers of 32-bit calls that differ between architectures.
const (
	compatOpenat   = 322
	compatIOSetup  = 243
	compatIOSubmit = 246
	compatMkdirat  = 323
	compatUnshare  = 337
	compatPrctl    = 172
	compatSocket   = 281
	compatConnect  = 283
)

// word writes an instruction of 32-bit arm.
func (c *code32) word(instruction uint32) { _ = binary.Write(c, binary.LittleEndian, instruction) }

// put loads the register of an argument, or that of the number behind them, with a constant: movw and movt.
func (c *code32) put(argument int, value uint32) {
	const number = 6
	register := uint32(argument)
	if argument == number {
		register = 7
	}
	half := func(v uint32) uint32 { return v>>12<<16 | v&0xfff }
	c.word(0xe3000000 | register<<12 | half(value&0xffff))
	c.word(0xe3400000 | register<<12 | half(value>>16))
}

// trap makes the call that is loaded.
func (c *code32) trap() { c.word(0xef000000) } // svc 0

// keep stores what the last call returned at an address.
func (c *code32) keep(address uint32) {
	c.put(1, address)
	c.word(0xe5810000) // str r0, [r1]
}

// fetch loads the first argument from an address.
func (c *code32) fetch(address uint32) {
	c.put(0, address)
	c.word(0xe5900000) // ldr r0, [r0]
}

// mapOld32 is code that maps executable memory. There is no old mmap, whose arguments lie in memory.
func mapOld32(arguments []uint32) (*code32, []byte) {
	var c code32
	c.call(192, arguments...)
	c.exit()
	return &c, nil
}

// truncate32 is the arguments of truncate64 behind the path: 64 bits begin in a register of even number.
func truncate32(low, high uint32) []uint32 { return []uint32{0, low, high} }

// notable32 is by number: umount2 is 52, with 64 bits fchmod; 213 is setuid32, with 64 bits readahead; 165 is getresuid, with 64 bits getrusage.
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
