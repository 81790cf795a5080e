// SPDX-License-Identifier: Apache-2.0

package event

import "strconv"

// Kinds of file events, successful or not.
const (
	// KindFileOpen is an open, successful or not.
	KindFileOpen Kind = "watchglass.file.open"
	// KindFileCreate is the making of a directory, device, pipe or socket by name; files are made by opens.
	KindFileCreate Kind = "watchglass.file.create"
	// KindFileDelete is the removal of a name.
	KindFileDelete Kind = "watchglass.file.delete"
	// KindFileRename is the change of a name; what had the new name is gone.
	KindFileRename Kind = "watchglass.file.rename"
	// KindFileLink is a second name for a file: a hard link, or a symlink.
	KindFileLink Kind = "watchglass.file.link"
	// KindFileChmod is a change of a file's permission bits, or of its owner.
	KindFileChmod Kind = "watchglass.file.chmod"
	// KindFileTruncate is a change of a file's length by truncate or ftruncate.
	KindFileTruncate Kind = "watchglass.file.truncate"
	// KindFileMap is a file that was mapped into memory to be run: a program's library, or its own code.
	KindFileMap Kind = "watchglass.file.map"
)

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

// Via is how an operation reached the kernel.
type Via string

// The ways; an ordinary system call is the empty one.
const (
	ViaURing  Via = "io_uring"
	ViaHandle Via = "handle"
)

// Classified is a payload with paths: the collector says which class of file each names.
type Classified interface {
	// Classify sets the payload's classes.
	Classify(class func(path string) FileClass)
}

// FileOpen is the result of open, openat, openat2, creat or open_by_handle_at, or of their like in io_uring.
type FileOpen struct {
	// Path is the kernel's own path of the opened file, or the asked-for path when Claimed.
	Path string
	// HostPath is the kernel's path of the file on the host; "" where it is the same one, or none.
	HostPath string
	// Asked is the path that was asked for, where another thread could have replaced the descriptor and Path is
	// another one; else "".
	Asked string
	// Via is how it was opened.
	Via Via
	// Claimed is true when Path was read from user memory: the open failed, so no file exists to ask.
	Claimed bool
	// Raced is true when the file behind the descriptor is likely not the one that was opened.
	Raced bool
	// Unfinished is true when the result is not known.
	Unfinished bool
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
	// Count is how many opens in a window this tells of, after ones that were told by themselves; 0 for one that is.
	// Opens of watched files always are.
	Count uint64
	// Class is set by the collector: the most watched of what Path, HostPath and Asked name.
	Class FileClass
}

// Times is how many opens it tells of.
func (f *FileOpen) Times() uint64 { return max(f.Count, 1) }

// Kind implements Payload.
func (*FileOpen) Kind() Kind { return KindFileOpen }

// Classify implements Classified.
func (f *FileOpen) Classify(class func(string) FileClass) {
	f.Class = mostWatched(class, f.Path, f.HostPath, f.Asked)
}

// mostWatched is the class of the first path, unless another one names a secret, or a configuration.
func mostWatched(class func(string) FileClass, first string, others ...string) FileClass {
	most := class(first)
	for _, path := range others {
		if path == "" || most == FileClassSecret {
			continue
		}
		if c := class(path); c == FileClassSecret || c == FileClassConfig {
			most = c
		}
	}
	return most
}

// Severity implements Payload.
func (f *FileOpen) Severity() Severity { return fileSeverity(f.Error, f.Raced, f.Class) }

// fileSeverity is WARN for what was refused, INFO for what is watched or doubtful, else DEBUG.
func fileSeverity(err Errno, doubtful bool, classes ...FileClass) Severity {
	if err == 1 || err == 13 { // EPERM, EACCES
		return SeverityWarn
	}
	for _, class := range classes {
		if class == FileClassSecret || class == FileClassConfig {
			return SeverityInfo
		}
	}
	if doubtful {
		return SeverityInfo
	}
	return SeverityDebug
}

// AppendAttributes implements Payload.
func (f *FileOpen) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst,
		Attribute{FilePath, String(f.Path)},
		Attribute{FileAccess, Strings(f.Access.Names())})
	dst = appendString(dst, FileClassKey, string(f.Class))
	dst = appendString(dst, FileHostPath, f.HostPath)
	dst = appendString(dst, FileAskedPath, f.Asked)
	dst = appendString(dst, ViaKey, string(f.Via))
	dst = appendTrue(dst, FilePathClaimed, f.Claimed)
	dst = appendTrue(dst, FileRaced, f.Raced)
	dst = appendTrue(dst, Unfinished, f.Unfinished)
	dst = appendTrue(dst, FileCreated, f.Created)
	dst = appendTrue(dst, FileDeleted, f.Deleted)
	if f.Count != 0 {
		dst = append(dst, Attribute{FileCount, Int(int64(f.Count))})
	}
	dst = appendString(dst, ErrorType, f.Error.Name())
	return appendIdentity(dst, f.Inode, f.Device)
}

// appendTrue appends a mark that is set; one that is not is left out.
func appendTrue(dst []Attribute, key Key, set bool) []Attribute {
	if !set {
		return dst
	}
	return append(dst, Attribute{key, Bool(true)})
}

// appendIdentity appends what identifies a file, when it is known.
func appendIdentity(dst []Attribute, inode uint64, device uint32) []Attribute {
	if inode == 0 {
		return dst
	}
	return append(dst,
		Attribute{FileInode, decimalValue(inode)},
		Attribute{FileDevice, deviceValue(device)})
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
	if f.Asked != "" {
		dst = append(dst, ", asked for "...)
		dst = append(dst, f.Asked...)
	}
	dst = appendVia(dst, f.Via)
	if f.Count != 0 {
		dst = append(dst, ", "...)
		dst = strconv.AppendUint(dst, f.Count, 10)
		dst = append(dst, " times more"...)
	}
	return appendFailure(dst, f.Error)
}

func appendVia(dst []byte, via Via) []byte {
	if via == "" {
		return dst
	}
	dst = append(dst, " by "...)
	return append(dst, via...)
}

func appendFailure(dst []byte, err Errno) []byte {
	if err == 0 {
		return dst
	}
	dst = append(dst, ": "...)
	return append(dst, err.Name()...)
}

func appendDevice(dst []byte, dev uint32) []byte {
	dst = strconv.AppendUint(dst, uint64(dev>>20), 10)
	dst = append(dst, ':')
	return strconv.AppendUint(dst, uint64(dev&0xfffff), 10)
}
