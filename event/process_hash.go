// SPDX-License-Identifier: Apache-2.0

package event

// KindProcessHash is the SHA-256 of a program that was executed, or why there is none.
const KindProcessHash Kind = "watchglass.process.hash"

// ProcessHash tells the sum of a program after its exec, which could not wait for it. The event's process is the one
// that executed it, which may have ended meanwhile. Later execs of the same version of the file have the sum themselves.
type ProcessHash struct {
	// Executable is the program's path.
	Executable string
	// SHA256 is in hexadecimal; Missing why there is none: busy, gone, changed, too_large, filesystem, unreadable.
	SHA256, Missing string
	// Uncertain is whether the file had changed so shortly before it was executed that a second change would not show: the
	// sum may be of what it became after.
	Uncertain bool
}

// Kind implements Payload.
func (*ProcessHash) Kind() Kind { return KindProcessHash }

// Severity implements Payload.
func (*ProcessHash) Severity() Severity { return SeverityInfo }

// AppendAttributes implements Payload. The executable's path comes with the process, which may run another one by now.
func (p *ProcessHash) AppendAttributes(dst []Attribute) []Attribute {
	dst = appendString(dst, FilePath, p.Executable)
	dst = appendString(dst, ProcessSHA256, p.SHA256)
	dst = appendString(dst, ProcessHashMissing, p.Missing)
	return appendTrue(dst, ProcessHashUncertain, p.Uncertain)
}

// AppendBody implements Payload.
func (p *ProcessHash) AppendBody(dst []byte) []byte {
	dst = append(dst, p.Executable...)
	if p.SHA256 == "" {
		return append(append(dst, " has no hash: "...), p.Missing...)
	}
	dst = append(append(dst, " is sha256 "...), p.SHA256...)
	if p.Uncertain {
		dst = append(dst, ", or was changed as it was executed"...)
	}
	return dst
}
