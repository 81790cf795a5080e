// SPDX-License-Identifier: Apache-2.0

package exporters

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func printable(s string) string {
	var dst []byte
	for len(s) > 0 {
		var n int
		dst, n = AppendPrintable(dst, s)
		s = s[n:]
	}
	return string(dst)
}

func TestAppendPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain /path":             "plain /path",
		"tab\tnew\nline\rreturn":  `tab\tnew\nline\rreturn`,
		"\x1b[31m\x00\x7f":        `\x1b[31m\x00\x7f`,
		"c1 \u009b31m":            `c1 \u{9b}31m`,
		"raw c1 \x9b31m":          `raw c1 \x9b31m`,
		"\u202egnp.exe":           `\u{202e}gnp.exe`,
		"zero\u200bwidth\ufeff":   `zero\u{200b}width\u{feff}`,
		"tag \U000e0041":          `tag \u{e0041}`,
		"filler \u3164\u2800":     `filler \u{3164}\u{2800}`,
		"separators \u2028\u00a0": `separators \u{2028}\u{a0}`,
		"naïve 日本 é 👍":            "naïve 日本 é 👍",
		"cut \xe6\x97":            `cut \xe6\x97`,
		"replacement \ufffd":      "replacement \ufffd",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestAppendRewritten(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":             "",
		`a\b é`:        `a\\b é`,
		"a\xffb":       `a\xffb`,
		"a\\\xff":      `a\\\xff`,
		"\xed\xa0\x80": `\xed\xa0\x80`, // a surrogate is not UTF-8
	} {
		if got := string(AppendRewritten(nil, []byte(in))); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// unescape takes back what AppendRewritten did.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if s[i+1] == '\\' {
			b.WriteByte('\\')
			i++
			continue
		}
		b.WriteByte(byte(strings.IndexByte(hexDigits, s[i+2])<<4 | strings.IndexByte(hexDigits, s[i+3])))
		i += 3
	}
	return b.String()
}

// FuzzEscape holds both escapes to what they promise: UTF-8 from which the bytes can be had back, and
// text that cannot do anything to a terminal.
func FuzzEscape(f *testing.F) {
	for _, seed := range []string{"", "a", "\xff\\", "\x1b]8;;x\x07", "\u202e", "é\xc3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := AppendRewritten(nil, []byte(s))
		if !utf8.Valid(text) {
			t.Errorf("AppendRewritten(%q) = %q is not UTF-8", s, text)
		}
		if unescape(string(text)) != s {
			t.Errorf("AppendRewritten(%q) = %q cannot be taken back", s, text)
		}
		for i, r := range printable(s) {
			if r == utf8.RuneError && !strings.ContainsRune(s, utf8.RuneError) ||
				!unicode.IsPrint(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Bidi_Control, r) {
				t.Errorf("AppendPrintable(%q) holds %q at %d", s, r, i)
			}
		}
	})
}
