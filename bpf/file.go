// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// Kinds of the file probe's records (enum file_kind).
const (
	fileKindOpen = 1 + iota
	fileKindChange
	fileKindMap
	fileKindUse
)

// fileKinds is the names of the kinds of records about files.
func fileKinds() []string {
	return []string{string(event.KindFileOpen), "watchglass.file.change", string(event.KindFileMap), string(event.KindFileIO)}
}

// Marks of a file record (enum file_marks).
const (
	fileClaimed = 1 << iota
	fileRaced
	fileURing
	fileHandle
	fileUnfinished
)

// Flags of a path (enum path_flags of lib/path.h).
const (
	pathTruncated = 1 << iota
	pathOutside
	pathDeleted
	pathPseudo
)

// Bits of struct file's f_mode that the kernel's headers do not export to programs.
const (
	fmodeRead    = 1
	fmodeWrite   = 2
	fmodeCreated = 0x100000
)

// decodeFile decodes a record about a file, of whichever probe.
func decodeFile(r *Record, kind uint16, data []byte) error {
	switch kind {
	case fileKindOpen, fileKindMap, fileKindUse:
		return decodeOpen(r, kind, data)
	case fileKindChange:
		return decodeChange(r, data)
	default:
		return fmt.Errorf("%w: kind %d", errUnknown, kind)
	}
}

// decodeOpen decodes an open, or a mapping or first use, which are told in the same form.
func decodeOpen(r *Record, kind uint16, data []byte) error {
	open, rest, err := view[fileOpen](data)
	if err != nil {
		return err
	}
	parts, err := takeTexts(rest, open.PathSize, open.HostSize, open.AskedSize)
	if err != nil {
		return err
	}
	m := r.memory
	path := m.pathText(parts[0], open.PathFlags, open.Mode, open.Inode)
	host := m.otherPath(parts[1], path)
	if kind == fileKindMap {
		r.Payload = keep(m, &m.maps, event.FileMap{
			Path: path, HostPath: host, Claimed: open.Marks&fileClaimed != 0,
			Inode: open.Inode, Device: open.Device, Mode: open.Mode, Deleted: open.PathFlags&pathDeleted != 0,
		})
		return nil
	}
	r.mix = open.Mix
	if kind == fileKindUse {
		r.Payload = keep(m, &m.uses, FileUse{event.FileIO{
			Path: path, HostPath: host, Inode: open.Inode, Device: open.Device, Mode: open.Mode, Deleted: open.PathFlags&pathDeleted != 0,
		}})
		return nil
	}
	r.Payload = keep(m, &m.opens, event.FileOpen{
		Path: path, HostPath: host, Asked: m.otherPath(parts[2], path), Via: viaOf(open.Marks),
		Claimed:    open.Marks&fileClaimed != 0,
		Raced:      open.Marks&fileRaced != 0,
		Unfinished: open.Marks&fileUnfinished != 0,
		Access:     openAccess(&open),
		Error:      event.Errno(open.Error),
		Inode:      open.Inode,
		Device:     open.Device,
		Mode:       open.Mode,
		Created:    open.Inode != 0 && open.FileMode&fmodeCreated != 0,
		Deleted:    open.PathFlags&pathDeleted != 0,
	})
	return nil
}

func decodeChange(r *Record, data []byte) error {
	change, rest, err := view[fileChange](data)
	if err != nil {
		return err
	}
	operation, err := operationOf(change.Operation)
	if err != nil {
		return err
	}
	parts, err := takeTexts(rest, change.PathSize, change.HostSize, change.SecondSize)
	if err != nil {
		return err
	}
	m := r.memory
	path := m.pathText(parts[0], change.PathFlags, change.Mode, change.Inode)
	target := m.text(parts[2])
	if operation != event.FileSymlink {
		target = m.path(parts[2])
	}
	r.Payload = keep(m, &m.changes, event.FileChange{
		Operation: operation, Path: path, HostPath: m.otherPath(parts[1], path), Target: target, Via: viaOf(change.Marks),
		Claimed: change.Marks&fileClaimed != 0, Unfinished: change.Marks&fileUnfinished != 0,
		Error: event.Errno(change.Error),
		Inode: change.Inode, Device: change.Device, Mode: change.Mode,
		Asked: change.AskedMode, Owner: change.Owner, Group: change.Group, Length: change.Length,
	})
	return nil
}

// takeTexts splits three texts off data.
func takeTexts(data []byte, sizes ...uint32) (texts [3][]byte, err error) {
	for i, size := range sizes {
		if texts[i], data, err = take(data, size); err != nil {
			return texts, err
		}
	}
	return texts, nil
}

// otherPath is a path beside another one of the same file: "" where it is the same.
func (m *memory) otherPath(text []byte, path string) string {
	if len(text) == 0 || string(text) == path {
		return ""
	}
	if other := m.path(text); other != path {
		return other
	}
	return ""
}

func viaOf(marks uint32) event.Via {
	switch {
	case marks&fileURing != 0:
		return event.ViaURing
	case marks&fileHandle != 0:
		return event.ViaHandle
	default:
		return ""
	}
}

// operationOf is the operation of a number of enum file_operation.
func operationOf(number uint32) (event.FileOperation, error) {
	all := [...]event.FileOperation{
		event.FileMkdir, event.FileMknod, event.FileRmdir, event.FileUnlink, event.FileRenamed,
		event.FileLinked, event.FileSymlink, event.FileTruncate, event.FileChmod, event.FileChown,
	}
	if number < 1 || number > uint32(len(all)) {
		return "", fmt.Errorf("%w: file operation %d", errUnknown, number)
	}
	return all[number-1], nil
}

// openAccess is what an open asked for. What the opened file allows is the kernel's word and goes
// before the flags of the call, which for openat2 lie in the caller's memory.
func openAccess(open *fileOpen) event.Access {
	var a event.Access
	reads, writes := accessModes(open.Asked)
	flags := open.Asked
	if open.Inode != 0 {
		reads, writes = open.FileMode&fmodeRead != 0, open.FileMode&fmodeWrite != 0
		flags = open.FileFlags | open.Asked&(unix.O_CREAT|unix.O_TRUNC)
	}
	set := func(on bool, bit event.Access) {
		if on {
			a |= bit
		}
	}
	isPath := flags&unix.O_PATH != 0
	set(reads && !isPath, event.AccessRead)
	set(writes && !isPath, event.AccessWrite)
	set(flags&unix.O_CREAT != 0 && !isPath, event.AccessCreate)
	set(flags&unix.O_TRUNC != 0 && !isPath, event.AccessTruncate)
	set(flags&unix.O_APPEND != 0 && !isPath, event.AccessAppend)
	set(isPath, event.AccessPath)
	set(flags&unix.O_DIRECTORY != 0 || open.Mode&unix.S_IFMT == unix.S_IFDIR, event.AccessDirectory)
	return a
}

// accessModes reads the two low bits of open flags, which are a number and not a set.
func accessModes(flags uint32) (reads, writes bool) {
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		return true, false
	case unix.O_WRONLY:
		return false, true
	case unix.O_RDWR:
		return true, true
	default: // 3: permission to read and write is checked, for ioctl alone
		return false, false
	}
}

// pathText is the text of a path: see the function of that name.
func (m *memory) pathText(name []byte, flags, mode uint32, inode uint64) string {
	if flags&pathPseudo == 0 {
		return m.path(name)
	}
	return pathText(m.text(name), flags, mode, inode)
}

// pathText makes the text of a path. Files that live in no directory get the names that /proc/PID/fd
// shows. Of a relative path, "." and empty elements go; ".." stays, since what it means depends on symlinks.
func pathText(name string, flags, mode uint32, inode uint64) string {
	switch {
	case flags&pathPseudo == 0:
		return cleanPath(name)
	case mode&unix.S_IFMT == unix.S_IFIFO:
		return "pipe:[" + strconv.FormatUint(inode, 10) + "]"
	case mode&unix.S_IFMT == unix.S_IFSOCK:
		return "socket:[" + strconv.FormatUint(inode, 10) + "]"
	case strings.HasPrefix(name, "memfd:"):
		return "/" + name
	case strings.HasPrefix(name, "["):
		return "anon_inode:" + name
	default:
		return name
	}
}

// cleanPath takes empty and "." elements out of a path, keeping its meaning. It changes nothing, and
// allocates nothing, where there are none.
func cleanPath(path string) string {
	if !strings.Contains(path, "//") && !strings.Contains(path, "/./") && !strings.HasSuffix(path, "/.") {
		return path
	}
	clean := make([]byte, 0, len(path))
	for i, part := range strings.Split(path, "/") {
		if part == "" || part == "." && i > 0 {
			continue
		}
		if i > 0 {
			clean = append(clean, '/')
		}
		clean = append(clean, part...)
	}
	if len(clean) == 0 {
		return "/"
	}
	return string(clean)
}
