// SPDX-License-Identifier: Apache-2.0

package event

import (
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// Kinds of process events.
const (
	// KindProcessExec is a successful exec.
	KindProcessExec Kind = "watchglass.process.exec"
	// KindProcessExit is the end of a process, when its last thread is gone.
	KindProcessExit Kind = "watchglass.process.exit"
)

// Origin is where an executable came from, as far as that is unusual.
type Origin string

// The origins.
const (
	// OriginFile is a file on an ordinary file system.
	OriginFile Origin = "file"
	// OriginMemfd is anonymous memory made by memfd_create.
	OriginMemfd Origin = "memfd"
	// OriginDeleted is a file without a name left.
	OriginDeleted Origin = "deleted"
	// OriginTmpfs is a file in memory on a tmpfs mount.
	OriginTmpfs Origin = "tmpfs"
	// OriginImage is a file of an overlay's lower layers: of a container's image.
	OriginImage Origin = "image"
	// OriginUpper is a file of an overlay's upper layer: made or changed since the container was.
	OriginUpper Origin = "upper"
)

// EnvVar is one allow-listed environment variable.
type EnvVar struct{ Name, Value string }

// ProcessExec is a successful exec: from the committed memory of the new program and kernel objects.
type ProcessExec struct {
	// Args is the arguments as strings of bytes; ArgsCount their number before any cut.
	Args      []string
	ArgsCount int
	// Executable is the path of the program that runs; Filename what exec was asked for, when it
	// differs (a script whose interpreter runs).
	Executable, Filename string
	// WorkingDirectory is the current directory.
	WorkingDirectory string
	// Env is the allow-listed environment variables, in the order of the environment.
	Env []EnvVar
	// Origin is where the executable came from.
	Origin Origin
	// Inode and Device identify the executable's file; Device is major<<20|minor.
	Inode  uint64
	Device uint32
	// Changed and Modified are the executable's ctime and mtime, zero when not known.
	Changed, Modified time.Time
	// SHA256 is the executable's sum in hexadecimal; "" where it is not asked for, or not known yet (ProcessHash).
	SHA256 string
	// WritableMount is true when neither the executable's mount nor its file system is read-only.
	WritableMount bool
	// SetUser and SetGroup are the executable's set-id bits; SecureExec is true when the program got ids or
	// capabilities that its caller did not have, by these or by capabilities of the file.
	SetUser, SetGroup, SecureExec bool
	// ProcessGroup and TerminalSession are in the initial PID namespace, 0 when not known; TTY is the name of the
	// controlling terminal, "" without one.
	ProcessGroup, TerminalSession uint32
	TTY                           string
	// LoginUserID is the audit login id, -1 when none was set.
	LoginUserID int64
	// Privileges is what the program may do; nil when not known.
	Privileges *Privileges
	// Ancestry is the executable names from the parent upwards.
	Ancestry []string
}

// Script says whether an interpreter runs a script, whose path Filename then is.
func (p *ProcessExec) Script() bool { return p.Filename != "" && p.Filename != p.Executable }

// Kind implements Payload.
func (*ProcessExec) Kind() Kind { return KindProcessExec }

// Severity implements Payload.
func (*ProcessExec) Severity() Severity { return SeverityInfo }

// AppendAttributes implements Payload. The executable's path and name come with the process.
func (p *ProcessExec) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst,
		Attribute{ProcessCommandArgs, Strings(p.Args)},
		Attribute{ProcessArgsCount, Int(int64(p.ArgsCount))})
	dst = appendString(dst, ProcessWorkingDirectory, p.WorkingDirectory)
	if p.Script() {
		dst = append(dst, Attribute{ProcessScript, String(p.Filename)})
		dst = appendString(dst, ProcessInterpreter, p.Executable)
	}
	dst = appendString(dst, ProcessOrigin, string(p.Origin))
	dst = p.appendFile(dst)
	dst = appendString(dst, ProcessSHA256, p.SHA256)
	dst = p.appendTerminal(dst)
	dst = p.Privileges.appendPrivileges(dst)
	if len(p.Ancestry) > 0 {
		dst = append(dst, Attribute{ProcessAncestry, Strings(p.Ancestry)})
	}
	for i, v := range p.Env {
		if p.named(v.Name, i) {
			continue // getenv gives the first; a second of the same name is there to deceive
		}
		dst = append(dst, Attribute{environmentKey(v.Name), String(v.Value)})
	}
	return dst
}

// maxEnvironmentKeys bounds what environmentKey remembers: more than the names that the kernel can look for.
const maxEnvironmentKeys = 256

// environmentKeys is the keys made so far, by the variable's name.
var environmentKeys atomic.Pointer[map[string]Key] //nolint:gochecknoglobals // a pure function's results; making one anew for each exec allocates

// environmentKey is the attribute of a variable: the prefix, a dot, and its name.
func environmentKey(name string) Key {
	known := environmentKeys.Load()
	if known == nil {
		known = &map[string]Key{}
	}
	if key, ok := (*known)[name]; ok {
		return key
	}
	key := ProcessEnvironment + "." + Key(name)
	if len(*known) < maxEnvironmentKeys {
		more := maps.Clone(*known)
		more[string(key[len(ProcessEnvironment)+1:])] = key
		environmentKeys.Store(&more) // another goroutine's may be overwritten, and is made anew
	}
	return key
}

// appendFile appends what the executable's file gives the program.
func (p *ProcessExec) appendFile(dst []Attribute) []Attribute {
	if p.WritableMount {
		dst = append(dst, Attribute{ProcessExecutableWritable, Bool(true)})
	}
	var setID []string
	if p.SetUser {
		setID = append(setID, "setuid")
	}
	if p.SetGroup {
		setID = append(setID, "setgid")
	}
	if len(setID) > 0 {
		dst = append(dst, Attribute{ProcessSetID, Strings(setID)})
	}
	if p.SecureExec {
		dst = append(dst, Attribute{ProcessSecureExec, Bool(true)})
	}
	return dst
}

// appendTerminal appends the groups that the process is in.
func (p *ProcessExec) appendTerminal(dst []Attribute) []Attribute {
	if p.ProcessGroup != 0 {
		dst = append(dst, Attribute{ProcessGroupLeaderPID, Int(int64(p.ProcessGroup))})
	}
	if p.TerminalSession != 0 {
		dst = append(dst, Attribute{ProcessSessionLeaderPID, Int(int64(p.TerminalSession))})
	}
	dst = appendString(dst, ProcessTTY, p.TTY)
	if p.Privileges != nil && p.LoginUserID >= 0 {
		dst = append(dst, Attribute{ProcessLoginUID, Int(p.LoginUserID)})
	}
	return dst
}

// named says whether one of the first n environment variables has the name.
func (p *ProcessExec) named(name string, n int) bool {
	return slices.ContainsFunc(p.Env[:n], func(v EnvVar) bool { return v.Name == name })
}

// AppendBody implements Payload.
func (p *ProcessExec) AppendBody(dst []byte) []byte {
	if len(p.Args) == 0 {
		return append(dst, p.Executable...)
	}
	for i, arg := range p.Args {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = appendShellWord(dst, arg)
	}
	return dst
}

// appendShellWord quotes a word where a shell would need it, so that argument boundaries stay visible.
func appendShellWord(dst []byte, word string) []byte {
	plain := word != ""
	for i := 0; i < len(word) && plain; i++ {
		c := word[i]
		plain = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80 ||
			c == '-' || c == '_' || c == '.' || c == '/' || c == '=' || c == ':' || c == ',' || c == '+' || c == '@' || c == '%'
	}
	if plain {
		return append(dst, word...)
	}
	dst = append(dst, '\'')
	for i := 0; i < len(word); i++ {
		if word[i] == '\'' {
			dst = append(dst, `'\''`...)
			continue
		}
		dst = append(dst, word[i])
	}
	return append(dst, '\'')
}

// ProcessExit is the end of a process.
type ProcessExit struct {
	// Code is the exit code; meaningful when Signal is 0.
	Code int
	// Signal is the number of the signal that ended the process, 0 for none.
	Signal int
	// CoreDumped is true when a core was written.
	CoreDumped bool
	// OOMKilled is true when the kernel ended it because memory had run out.
	OOMKilled bool
	// Exited is when; Duration how long the process lived since its fork.
	Exited   time.Time
	Duration time.Duration
	// Usage is what it used; nil when not known.
	Usage *Usage
}

// Usage is what the threads of a process used in its life, without those of its children.
type Usage struct {
	// User and System are the times on a CPU in user and in kernel mode. Their sum is exact, the division sampled.
	User, System time.Duration
	// MaxResident is the most memory that was resident at once, in bytes.
	MaxResident uint64
	// BytesRead and BytesWritten went through read(2), write(2) and their kin, whatever the file was; DiskRead and
	// DiskWritten from and to disks. 0 where the kernel does not count them.
	BytesRead, BytesWritten, DiskRead, DiskWritten uint64
	// MinorFaults and MajorFaults are page faults without and with input.
	MinorFaults, MajorFaults uint64
}

// appendUsage appends what is known; nothing for nil.
func (u *Usage) appendUsage(dst []Attribute) []Attribute {
	if u == nil {
		return dst
	}
	return append(dst,
		Attribute{ProcessCPUUser, Seconds(u.User)},
		Attribute{ProcessCPUSystem, Seconds(u.System)},
		Attribute{ProcessMaxResident, Int(int64(u.MaxResident))},
		Attribute{ProcessBytesRead, Int(int64(u.BytesRead))},
		Attribute{ProcessBytesWritten, Int(int64(u.BytesWritten))},
		Attribute{ProcessDiskRead, Int(int64(u.DiskRead))},
		Attribute{ProcessDiskWritten, Int(int64(u.DiskWritten))},
		Attribute{ProcessMinorFaults, Int(int64(u.MinorFaults))},
		Attribute{ProcessMajorFaults, Int(int64(u.MajorFaults))})
}

// Kind implements Payload.
func (*ProcessExit) Kind() Kind { return KindProcessExit }

// Severity implements Payload: a crash or a kill deserves a look.
func (p *ProcessExit) Severity() Severity {
	switch SignalName(p.Signal) {
	case "SIGSEGV", "SIGKILL", "SIGSYS", "SIGBUS", "SIGILL", "SIGABRT":
		return SeverityWarn
	}
	return SeverityInfo
}

// AppendAttributes implements Payload.
func (p *ProcessExit) AppendAttributes(dst []Attribute) []Attribute {
	if p.Signal != 0 {
		dst = append(dst, Attribute{ExitSignal, String(SignalName(p.Signal))})
		if p.CoreDumped {
			dst = append(dst, Attribute{ExitCoreDumped, Bool(true)})
		}
		if p.OOMKilled {
			dst = append(dst, Attribute{ExitOOMKilled, Bool(true)})
		}
	} else {
		dst = append(dst, Attribute{ProcessExitCode, Int(int64(p.Code))})
	}
	dst = append(dst,
		Attribute{ProcessExitTime, Timestamp(p.Exited)},
		Attribute{ProcessDuration, Seconds(p.Duration)})
	return p.Usage.appendUsage(dst)
}

// AppendBody implements Payload.
func (p *ProcessExit) AppendBody(dst []byte) []byte {
	if p.Signal != 0 {
		dst = append(dst, "killed by "...)
		dst = append(dst, SignalName(p.Signal)...)
		if p.OOMKilled {
			dst = append(dst, " (out of memory)"...)
		}
	} else {
		dst = append(dst, "exit "...)
		dst = strconv.AppendInt(dst, int64(p.Code), 10)
	}
	dst = append(dst, " after "...)
	return append(dst, roundDuration(p.Duration).String()...)
}

func roundDuration(d time.Duration) time.Duration {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond)
	default:
		return d.Round(100 * time.Nanosecond)
	}
}
