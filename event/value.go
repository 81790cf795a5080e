// SPDX-License-Identifier: Apache-2.0

package event

import (
	"encoding/binary"
	"math"
	"net/netip"
	"strconv"
	"time"
)

// ValueKind says which of its forms a Value has.
type ValueKind uint8

// The forms of a Value. They are the subset of OTLP's AnyValue that Watchglass uses.
const (
	ValueInvalid ValueKind = iota
	ValueString
	ValueInt
	ValueDouble
	ValueBool
	ValueStrings
	ValueMap
)

// String is the name of the form as docs/telemetry.md shows it.
func (k ValueKind) String() string {
	switch k {
	case ValueString:
		return "string"
	case ValueInt:
		return "int"
	case ValueDouble:
		return "double"
	case ValueBool:
		return "boolean"
	case ValueStrings:
		return "string[]"
	case ValueMap:
		return "map[string]int"
	case ValueInvalid:
		return "invalid"
	}
	return "invalid"
}

// form says how the text of a ValueString is made. Texts that are made from numbers are kept as numbers until
// somebody writes them, so that enumerating the attributes of an event does not allocate.
type form uint8

const (
	formText    form = iota // str
	formTime                // num is nanoseconds since 1970
	formID                  // num as 16 hexadecimal digits
	formUID                 // str, a dash, num
	formDecimal             // num
	formOctal               // 0, num in octal
	formDevice              // num is major<<20|minor
	formIPv4                // num is the address
	formIPv6                // high and num are the address, str its zone
)

// Value is one attribute value: a small tagged union that holds scalars without allocating.
// The zero Value is invalid and is never exported.
type Value struct {
	kind ValueKind
	form form
	num  uint64
	high uint64
	str  string
	list []string
	pair []Count
	// told is the items of a list or map whose texts are made when somebody writes them; nil for the two above.
	told items
}

// items is a list of texts, or of names with numbers, that are kept in another form until somebody writes them.
// A payload gives a pointer to what it holds, so that telling it does not allocate.
type items interface {
	length() int
	appendItem(dst []byte, i int) []byte
	number(i int) int64
}

// Count is one entry of a map value: a name and how often.
type Count struct {
	Name string
	N    int64
}

// String makes a string value. The bytes are the sandbox's: they may be invalid UTF-8
// or hold control characters; exporters escape them in the way their format asks for.
func String(s string) Value { return Value{kind: ValueString, str: s} }

// Int makes a 64-bit signed integer value.
func Int(i int64) Value { return Value{kind: ValueInt, num: uint64(i)} }

// Double makes a floating-point value.
func Double(f float64) Value { return Value{kind: ValueDouble, num: math.Float64bits(f)} }

// Bool makes a boolean value.
func Bool(b bool) Value {
	if b {
		return Value{kind: ValueBool, num: 1}
	}
	return Value{kind: ValueBool}
}

// Strings makes a list value. The list is not copied and must not change afterwards.
func Strings(list []string) Value { return Value{kind: ValueStrings, list: list} }

// Counts makes a map from name to count. The slice is not copied and must not change afterwards.
func Counts(pairs []Count) Value { return Value{kind: ValueMap, pair: pairs} }

func itemsOf(kind ValueKind, told items) Value { return Value{kind: kind, told: told} }

// Seconds makes a double value of d in seconds, the unit the conventions use for durations.
func Seconds(d time.Duration) Value { return Double(d.Seconds()) }

// Timestamp makes a string value of t in RFC 3339 with nanoseconds, in UTC.
func Timestamp(t time.Time) Value {
	const first, last = -1 << 63 / int64(time.Second), (1<<63 - 1) / int64(time.Second)
	if s := t.Unix(); s <= first || s >= last {
		return String(t.UTC().Format(time.RFC3339Nano)) // beyond the years 1678 to 2262
	}
	return Value{kind: ValueString, form: formTime, num: uint64(t.UnixNano())}
}

func idValue(id ProcessID) Value {
	if id == 0 {
		return String("")
	}
	return Value{kind: ValueString, form: formID, num: uint64(id)}
}

func decimalValue(n uint64) Value { return Value{kind: ValueString, form: formDecimal, num: n} }

func octalValue(n uint32) Value { return Value{kind: ValueString, form: formOctal, num: uint64(n)} }

func deviceValue(dev uint32) Value {
	return Value{kind: ValueString, form: formDevice, num: uint64(dev)}
}

func addressValue(addr netip.Addr) Value {
	if addr.Is4() {
		b := addr.As4()
		return Value{kind: ValueString, form: formIPv4, num: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	if !addr.IsValid() {
		return String(addr.String())
	}
	b := addr.As16()
	return Value{
		kind: ValueString, form: formIPv6, str: addr.Zone(),
		high: binary.BigEndian.Uint64(b[:8]), num: binary.BigEndian.Uint64(b[8:]),
	}
}

// Kind says which of the As methods is meaningful.
func (v Value) Kind() ValueKind { return v.kind }

// AsString is the string of a ValueString, else "".
func (v Value) AsString() string {
	if v.form == formText {
		return v.str
	}
	return string(v.AppendString(nil))
}

// Plain is the string of a ValueString that is held as one; false when AsString would have to make it.
func (v Value) Plain() (string, bool) { return v.str, v.form == formText }

// AppendString appends the string of a ValueString, and never allocates but to make dst longer.
func (v Value) AppendString(dst []byte) []byte {
	switch v.form {
	case formText:
		return append(dst, v.str...)
	case formTime:
		return time.Unix(0, int64(v.num)).UTC().AppendFormat(dst, time.RFC3339Nano)
	case formID:
		return ProcessID(v.num).append(dst)
	case formUID:
		return strconv.AppendUint(append(append(dst, v.str...), '-'), v.num, 10)
	case formDecimal:
		return strconv.AppendUint(dst, v.num, 10)
	case formOctal:
		return strconv.AppendUint(append(dst, '0'), v.num, 8)
	case formDevice:
		return appendDevice(dst, uint32(v.num))
	case formIPv4:
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(v.num))
		return netip.AddrFrom4(b).AppendTo(dst)
	case formIPv6:
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], v.high)
		binary.BigEndian.PutUint64(b[8:], v.num)
		return appendIPv6(dst, netip.AddrFrom16(b), v.str)
	}
	return dst
}

func appendIPv6(dst []byte, addr netip.Addr, zone string) []byte {
	dst = addr.AppendTo(dst)
	if zone == "" {
		return dst
	}
	return append(append(dst, '%'), zone...)
}

// AsInt is the integer of a ValueInt, else 0.
func (v Value) AsInt() int64 {
	if v.kind != ValueInt {
		return 0
	}
	return int64(v.num)
}

// AsDouble is the number of a ValueDouble, else 0.
func (v Value) AsDouble() float64 {
	if v.kind != ValueDouble {
		return 0
	}
	return math.Float64frombits(v.num)
}

// AsBool is the truth of a ValueBool, else false.
func (v Value) AsBool() bool { return v.kind == ValueBool && v.num != 0 }

// AsStrings is the list of a ValueStrings, else nil. It must not be changed.
func (v Value) AsStrings() []string {
	if v.told == nil || v.kind != ValueStrings {
		return v.list
	}
	list := make([]string, v.told.length())
	for i := range list {
		list[i] = string(v.told.appendItem(nil, i))
	}
	return list
}

// Len is how many items a ValueStrings or ValueMap has, else 0.
func (v Value) Len() int {
	if v.told != nil {
		return v.told.length()
	}
	return len(v.list) + len(v.pair)
}

// AppendItem appends item i of a ValueStrings, or name i of a ValueMap, and never allocates but to make dst longer.
func (v Value) AppendItem(dst []byte, i int) []byte {
	switch {
	case v.told != nil:
		return v.told.appendItem(dst, i)
	case v.kind == ValueMap:
		return append(dst, v.pair[i].Name...)
	default:
		return append(dst, v.list[i]...)
	}
}

// Number is number i of a ValueMap.
func (v Value) Number(i int) int64 {
	if v.told != nil {
		return v.told.number(i)
	}
	return v.pair[i].N
}

// AsCounts is the pairs of a ValueMap, else nil. It must not be changed.
func (v Value) AsCounts() []Count {
	if v.told == nil || v.kind != ValueMap {
		return v.pair
	}
	pairs := make([]Count, v.told.length())
	for i := range pairs {
		pairs[i] = Count{string(v.told.appendItem(nil, i)), v.told.number(i)}
	}
	return pairs
}

// Text is the value as a person would write it, for labels and messages.
// It is not escaped: what shows it on a terminal must do that.
func (v Value) Text() string {
	switch v.kind {
	case ValueString:
		return v.AsString()
	case ValueInt:
		return strconv.FormatInt(int64(v.num), 10)
	case ValueDouble:
		return strconv.FormatFloat(v.AsDouble(), 'g', -1, 64)
	case ValueBool:
		return strconv.FormatBool(v.AsBool())
	case ValueStrings:
		return joinText(v.AsStrings())
	case ValueMap:
		pairs := v.AsCounts()
		parts := make([]string, 0, len(pairs))
		for _, p := range pairs {
			parts = append(parts, p.Name+"="+strconv.FormatInt(p.N, 10))
		}
		return joinText(parts)
	case ValueInvalid:
	}
	return ""
}

func joinText(parts []string) string {
	n := 0
	for _, p := range parts {
		n += len(p) + 1
	}
	b := make([]byte, 0, n)
	for i, p := range parts {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, p...)
	}
	return string(b)
}

// Attribute is one name and value.
type Attribute struct {
	Key   Key
	Value Value
}

// AttributeInfo is what is known of an attribute: its name, the form of its value and what it says.
type AttributeInfo struct {
	Key  Key
	Form ValueKind
	Doc  string
}

// KindInfo is what is known of a kind of event: what it is and the attributes of its own.
type KindInfo struct {
	Kind       Kind
	Doc        string
	Attributes []Key
}
