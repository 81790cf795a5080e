// SPDX-License-Identifier: Apache-2.0

package exporters

import (
	"math"
	"unicode"
	"unicode/utf8"
)

// AppendRewritten appends s, which need not be UTF-8, as valid UTF-8 from which its bytes can be had back:
// each byte that is not UTF-8 as \xNN with two lower-case hexadecimal digits, and each backslash doubled.
//
// Formats whose strings must be UTF-8 (JSON, protobuf) rewrite the strings of an attribute when one of
// them is not UTF-8, and only then, and name the attribute in event.CaptureEscaped.
func AppendRewritten(dst, s []byte) []byte {
	for len(s) > 0 {
		r, size := utf8.DecodeRune(s)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = appendHexByte(dst, s[0])
		case r == '\\':
			dst = append(dst, `\\`...)
		default:
			dst = append(dst, s[:size]...)
		}
		s = s[size:]
	}
	return dst
}

// AppendPrintable appends one character of s, which must not be empty, in a form that is safe on a
// terminal, and returns how many bytes of s it took. Control characters (C0, DEL, C1), bytes that are not
// UTF-8, and everything a terminal shows as nothing or as something else (bidirectional overrides,
// zero-width and other invisible characters, line and paragraph separators) become \n, \t, \r, \xNN or \u{N}.
func AppendPrintable(dst []byte, s string) ([]byte, int) {
	c := s[0]
	if c >= 0x20 && c < 0x7f {
		return append(dst, c), 1
	}
	r, size := utf8.DecodeRuneInString(s)
	switch {
	case r == '\n':
		return append(dst, `\n`...), 1
	case r == '\t':
		return append(dst, `\t`...), 1
	case r == '\r':
		return append(dst, `\r`...), 1
	case c < 0x80, r == utf8.RuneError && size == 1:
		return appendHexByte(dst, c), 1
	case !Visible(r):
		dst = append(dst, `\u{`...)
		dst = appendHex(dst, uint32(r))
		return append(dst, '}'), size
	default:
		return append(dst, s[:size]...), size
	}
}

// Printable is s with every character as AppendPrintable has it.
func Printable(s string) string { return PrintableUpTo(s, math.MaxInt) }

// PrintableUpTo is Printable, cut to about limit bytes; what was cut is marked by "…".
func PrintableUpTo(s string, limit int) string {
	dst := make([]byte, 0, min(len(s), limit)+len("…"))
	for len(s) > 0 && len(dst) < limit {
		var n int
		dst, n = AppendPrintable(dst, s)
		s = s[n:]
	}
	if len(s) > 0 {
		dst = append(dst, "…"...)
	}
	return string(dst)
}

// Visible says whether a character is shown as itself: printable by Unicode, and not one of those that
// are printable by category but drawn as nothing.
func Visible(r rune) bool {
	if r < 0x7f {
		return r >= 0x20
	}
	const brailleBlank = '\u2800'
	return unicode.IsPrint(r) && r != brailleBlank &&
		!unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) &&
		!unicode.Is(unicode.Variation_Selector, r)
}

const hexDigits = "0123456789abcdef"

func appendHexByte(dst []byte, c byte) []byte {
	return append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&0xf])
}

// appendHex appends n without leading zeros.
func appendHex(dst []byte, n uint32) []byte {
	started := false
	for shift := 28; shift >= 0; shift -= 4 {
		digit := n >> shift & 0xf
		started = started || digit != 0 || shift == 0
		if started {
			dst = append(dst, hexDigits[digit])
		}
	}
	return dst
}
