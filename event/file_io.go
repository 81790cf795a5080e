// SPDX-License-Identifier: Apache-2.0

package event

import "strconv"

// Kinds of events of what is read and written.
const (
	// KindFileIO is what a process read and wrote of a file since that was told last.
	KindFileIO Kind = "watchglass.file.io"
)

// FileIO is what a process read and wrote of a regular file or a block device, counted in the kernel, by system calls
// and through io_uring, whichever of its descriptors was used. It is told when the process has closed the file, has
// not used it for half a minute, executes another program, or ends. Files of which less than 64 KiB was read and
// nothing written, and which are not watched, are told together, by process, once 64 KiB is reached: then Files says of
// how many, at least. Less is part of what process.exit tells.
type FileIO struct {
	// Path and HostPath are the kernel's, as in FileOpen, when the process used the file first; "" with Files.
	Path, HostPath string
	// Via is ViaURing when some of it went through io_uring.
	Via Via
	// Read and Written are bytes, Reads and Writes successful calls that moved any, since it was told last.
	Read, Written, Reads, Writes uint64
	// Mapped is true when the process mapped the file into memory: what goes through that is not counted.
	Mapped bool
	// Asked is true when some of it went through io_submit(2) and is counted by what was asked for, the caller's word, but for
	// reads beyond the file's end: all of it under the plan tracepoint, under trampoline what the kernel did not do at once.
	Asked bool
	// Open is true when the process had the file still open, as far as is known.
	Open bool
	// Files is how many files it tells of together, at least; 0 for one.
	Files uint64
	// Inode, Device, Mode and Deleted are as in FileOpen.
	Inode   uint64
	Device  uint32
	Mode    uint32
	Deleted bool
	// Class is set by the collector.
	Class FileClass
}

// Kind implements Payload.
func (*FileIO) Kind() Kind { return KindFileIO }

// Classify implements Classified.
func (f *FileIO) Classify(class func(string) FileClass) {
	if f.Path != "" {
		f.Class = mostWatched(class, f.Path, f.HostPath)
	}
}

// Severity implements Payload.
func (f *FileIO) Severity() Severity { return fileSeverity(0, false, f.Class) }

// AppendAttributes implements Payload.
func (f *FileIO) AppendAttributes(dst []Attribute) []Attribute {
	dst = appendString(dst, FilePath, f.Path)
	dst = append(dst,
		Attribute{FileBytesRead, Int(int64(f.Read))},
		Attribute{FileBytesWritten, Int(int64(f.Written))},
		Attribute{FileReads, Int(int64(f.Reads))},
		Attribute{FileWrites, Int(int64(f.Writes))})
	dst = appendString(dst, FileClassKey, string(f.Class))
	dst = appendString(dst, FileHostPath, f.HostPath)
	dst = appendString(dst, ViaKey, string(f.Via))
	dst = appendTrue(dst, FileMapped, f.Mapped)
	dst = appendTrue(dst, FileIOAsked, f.Asked)
	dst = appendTrue(dst, FileStillOpen, f.Open)
	dst = appendTrue(dst, FileDeleted, f.Deleted)
	if f.Files != 0 {
		dst = append(dst, Attribute{FileCount, Int(int64(f.Files))})
	}
	return appendIdentity(dst, f.Inode, f.Device)
}

// AppendBody implements Payload.
func (f *FileIO) AppendBody(dst []byte) []byte {
	dst = append(dst, "read "...)
	dst = AppendBytes(dst, f.Read)
	dst = append(dst, ", wrote "...)
	dst = AppendBytes(dst, f.Written)
	dst = append(dst, ": "...)
	if f.Files == 0 {
		dst = append(dst, f.Path...)
		return appendVia(dst, f.Via)
	}
	dst = strconv.AppendUint(dst, f.Files, 10)
	if f.Files == 1 {
		return append(dst, " file"...)
	}
	return append(dst, " files"...)
}
