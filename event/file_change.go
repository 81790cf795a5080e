// SPDX-License-Identifier: Apache-2.0

package event

// FileOperation is what a FileChange did.
type FileOperation string

// The operations.
const (
	FileMkdir    FileOperation = "mkdir"
	FileMknod    FileOperation = "mknod"
	FileRmdir    FileOperation = "rmdir"
	FileUnlink   FileOperation = "unlink"
	FileRenamed  FileOperation = "rename"
	FileLinked   FileOperation = "link"
	FileSymlink  FileOperation = "symlink"
	FileTruncate FileOperation = "truncate"
	FileChmod    FileOperation = "chmod"
	FileChown    FileOperation = "chown"
)

// FileChange is what was done to a file by its name or by a descriptor, other than opening it.
type FileChange struct {
	// Operation is what was done; the event's kind follows from it.
	Operation FileOperation
	// Path is the file's path: the kernel's where the call named a descriptor; else Claimed, the caller's word
	// made absolute, in which symlinks are not resolved.
	Path string
	// HostPath is as in FileOpen.
	HostPath string
	// Target is the new name of a rename or hard link, as much the caller's word; the text of a symlink; else "".
	Target string
	// Via is how it was done.
	Via Via
	// Claimed is true when Path is the caller's word, or that of a descriptor that another thread may have replaced.
	Claimed bool
	// Unfinished is true when the result is not known.
	Unfinished bool
	// Error is the error number of a failure, 0 for success.
	Error Errno
	// Inode, Device and Mode are as in FileOpen; 0 where the call named a path.
	Inode  uint64
	Device uint32
	Mode   uint32
	// Asked is the permission bits (and for mknod the type) that mkdir, mknod and chmod asked for.
	Asked uint32
	// Owner and Group is what chown asked for, in the caller's user namespace; ^0 for no change.
	Owner, Group uint32
	// Length is what truncate asked for.
	Length uint64
	// Class and TargetClass are set by the collector.
	Class, TargetClass FileClass
}

// Kind implements Payload.
func (f *FileChange) Kind() Kind {
	switch f.Operation {
	case FileMkdir, FileMknod:
		return KindFileCreate
	case FileRmdir, FileUnlink:
		return KindFileDelete
	case FileRenamed:
		return KindFileRename
	case FileLinked, FileSymlink:
		return KindFileLink
	case FileTruncate:
		return KindFileTruncate
	case FileChmod, FileChown:
		return KindFileChmod
	}
	return KindFileChmod
}

// Classify implements Classified.
func (f *FileChange) Classify(class func(string) FileClass) {
	f.Class = mostWatched(class, f.Path, f.HostPath)
	if f.Target != "" {
		f.TargetClass = class(f.Target)
	}
}

// Severity implements Payload.
func (f *FileChange) Severity() Severity { return fileSeverity(f.Error, false, f.Class, f.TargetClass) }

// AppendAttributes implements Payload.
func (f *FileChange) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst,
		Attribute{FilePath, String(f.Path)},
		Attribute{FileOperationKey, String(string(f.Operation))})
	dst = appendString(dst, FileClassKey, string(f.Class))
	dst = appendString(dst, FileHostPath, f.HostPath)
	dst = appendString(dst, FileTargetPath, f.Target)
	dst = appendString(dst, FileTargetClass, string(f.TargetClass))
	dst = appendString(dst, ViaKey, string(f.Via))
	dst = appendTrue(dst, FilePathClaimed, f.Claimed)
	dst = appendTrue(dst, Unfinished, f.Unfinished)
	dst = appendString(dst, ErrorType, f.Error.Name())
	dst = appendIdentity(dst, f.Inode, f.Device)
	switch f.Operation {
	case FileMkdir, FileMknod, FileChmod:
		dst = append(dst, Attribute{FileMode, f.octal()})
	case FileChown:
		dst = appendOwner(dst, FileOwnerID, f.Owner)
		dst = appendOwner(dst, FileGroupID, f.Group)
	case FileTruncate:
		dst = append(dst, Attribute{FileSize, Int(int64(f.Length))})
	case FileRmdir, FileUnlink, FileRenamed, FileLinked, FileSymlink:
	}
	return dst
}

func appendOwner(dst []Attribute, key Key, id uint32) []Attribute {
	if id == ^uint32(0) {
		return dst
	}
	return append(dst, Attribute{key, decimalValue(uint64(id))})
}

// octal is the permission bits as chmod(1) takes them.
func (f *FileChange) octal() Value { return octalValue(f.Asked & 0o7777) }

// AppendBody implements Payload.
func (f *FileChange) AppendBody(dst []byte) []byte {
	switch f.Operation {
	case FileMkdir, FileMknod, FileRmdir, FileChown, FileSymlink:
		dst = append(dst, f.Operation...)
		dst = append(dst, ' ')
	case FileChmod:
		dst = f.octal().AppendString(dst)
		dst = append(dst, ' ')
	case FileTruncate:
		dst = append(dst, "to "...)
		dst = AppendBytes(dst, f.Length)
		dst = append(dst, ' ')
	case FileUnlink, FileRenamed, FileLinked:
	}
	dst = append(dst, f.Path...)
	if f.Target != "" {
		dst = append(dst, " → "...)
		dst = append(dst, f.Target...)
	}
	dst = appendVia(dst, f.Via)
	return appendFailure(dst, f.Error)
}

// FileMap is a file that was mapped into memory to be run.
type FileMap struct {
	// Path and HostPath are the kernel's, as in FileOpen.
	Path, HostPath string
	// Claimed is true when the mapping could not be looked at: then Path is that of the descriptor that was given.
	Claimed bool
	// Inode, Device, Mode and Deleted are as in FileOpen.
	Inode   uint64
	Device  uint32
	Mode    uint32
	Deleted bool
	// Class is set by the collector.
	Class FileClass
}

// Kind implements Payload.
func (*FileMap) Kind() Kind { return KindFileMap }

// Classify implements Classified.
func (f *FileMap) Classify(class func(string) FileClass) {
	f.Class = mostWatched(class, f.Path, f.HostPath)
}

// Severity implements Payload.
func (f *FileMap) Severity() Severity { return fileSeverity(0, f.Deleted, f.Class) }

// AppendAttributes implements Payload.
func (f *FileMap) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst, Attribute{FilePath, String(f.Path)})
	dst = appendString(dst, FileClassKey, string(f.Class))
	dst = appendString(dst, FileHostPath, f.HostPath)
	dst = appendTrue(dst, FilePathClaimed, f.Claimed)
	dst = appendTrue(dst, FileDeleted, f.Deleted)
	return appendIdentity(dst, f.Inode, f.Device)
}

// AppendBody implements Payload.
func (f *FileMap) AppendBody(dst []byte) []byte { return append(dst, f.Path...) }
