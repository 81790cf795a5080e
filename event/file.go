// SPDX-License-Identifier: Apache-2.0

package event

import "strconv"

// KindFileOpen is an open, successful or not.
const KindFileOpen Kind = "watchglass.file.open"

// Access is a set of what an open asked for.
type Access uint8

// The members of an Access.
const (
	AccessRead Access = 1 << iota
	AccessWrite
	AccessCreate
	AccessTruncate
	AccessAppend
	// AccessPath is O_PATH: a handle without access to the contents.
	AccessPath
	// AccessDirectory is the open of a directory.
	AccessDirectory
)

// Names is the members' names, in the order of the constants. The list is shared and must not be changed.
func (a Access) Names() []string { return accessNames[a] }

// accessNames is the names of each set, made once: an open is the most frequent event of all.
var accessNames = func() (sets [256][]string) { //nolint:gochecknoglobals // a constant table; Go has no constant arrays
	all := [...]string{"read", "write", "create", "truncate", "append", "path", "directory"}
	for set := range sets {
		for i, name := range all {
			if set&(1<<i) != 0 {
				sets[set] = append(sets[set], name)
			}
		}
	}
	return sets
}()

// FileClass is the kind of file a path names.
type FileClass string

// The classes. FileClassSecret and FileClassConfig are watched: their events have severity INFO.
const (
	FileClassSecret FileClass = "secret"
	FileClassConfig FileClass = "config"
	FileClassSource FileClass = "source"
	FileClassSystem FileClass = "system"
	FileClassTmp    FileClass = "tmp"
	FileClassProc   FileClass = "proc"
	FileClassOther  FileClass = "other"
)

// FileOpen is the result of open, openat, openat2 or creat.
type FileOpen struct {
	// Path is the kernel's own path of the opened file, or the asked-for path when Claimed.
	Path string
	// Claimed is true when Path was read from user memory: the open failed, so no file exists to ask.
	Claimed bool
	// Access is what was asked for.
	Access Access
	// Error is the error number of a failure, 0 for success.
	Error Errno
	// Inode and Device identify the opened file (Device is major<<20|minor); 0 on failure.
	Inode  uint64
	Device uint32
	// Mode is the file's type and permission bits as in stat(2); 0 on failure.
	Mode uint32
	// Created is true when this open made the file, by the kernel's word (FMODE_CREATED): asking for
	// AccessCreate does not say whether it existed.
	Created bool
	// Deleted is true when the opened file had no name any more (/proc/PID/fd, O_TMPFILE); Path is the one it had.
	Deleted bool
	// Class is set by the collector.
	Class FileClass
}

// Kind implements Payload.
func (*FileOpen) Kind() Kind { return KindFileOpen }

// Severity implements Payload.
func (f *FileOpen) Severity() Severity {
	switch {
	case f.Error == 1 || f.Error == 13: // EPERM, EACCES
		return SeverityWarn
	case f.Class == FileClassSecret || f.Class == FileClassConfig:
		return SeverityInfo
	default:
		return SeverityDebug
	}
}

// AppendAttributes implements Payload.
func (f *FileOpen) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst,
		Attribute{FilePath, String(f.Path)},
		Attribute{FileAccess, Strings(f.Access.Names())})
	dst = appendString(dst, FileClassKey, string(f.Class))
	if f.Claimed {
		dst = append(dst, Attribute{FilePathClaimed, Bool(true)})
	}
	if f.Created {
		dst = append(dst, Attribute{FileCreated, Bool(true)})
	}
	if f.Deleted {
		dst = append(dst, Attribute{FileDeleted, Bool(true)})
	}
	dst = appendString(dst, ErrorType, f.Error.Name())
	if f.Inode != 0 {
		dst = append(dst,
			Attribute{FileInode, decimalValue(f.Inode)},
			Attribute{FileDevice, deviceValue(f.Device)})
	}
	return dst
}

// AppendBody implements Payload.
func (f *FileOpen) AppendBody(dst []byte) []byte {
	for i, name := range f.Access.Names() {
		if i > 0 {
			dst = append(dst, '+')
		}
		dst = append(dst, name...)
	}
	dst = append(dst, ' ')
	dst = append(dst, f.Path...)
	if f.Error != 0 {
		dst = append(dst, ": "...)
		dst = append(dst, f.Error.Name()...)
	}
	return dst
}

func appendDevice(dst []byte, dev uint32) []byte {
	dst = strconv.AppendUint(dst, uint64(dev>>20), 10)
	dst = append(dst, ':')
	return strconv.AppendUint(dst, uint64(dev&0xfffff), 10)
}
