// SPDX-License-Identifier: Apache-2.0

package digest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// chunk is how much is read before it is asked whether to go on.
const chunk = 1 << 20

// errReason is a reason as an error.
type errReason Reason

func (e errReason) Error() string { return string(e) }

// read finds a file again and reads it.
func (d *Digester) read(ctx context.Context, r *Request) Result {
	found, err := find(r)
	if err == nil {
		defer found.Close() //nolint:errcheck // it is only read
		var sum string
		if sum, err = d.sumOnce(ctx, found, r); err == nil {
			return Result{SHA256: sum, Uncertain: found.moved || !r.settled()}
		}
	}
	if reason, ok := errors.AsType[errReason](err); ok {
		return Result{Reason: Reason(reason)}
	}
	return Result{Reason: ReasonUnreadable}
}

// foundFile is the file of a request, opened, and how it was then.
type foundFile struct {
	*os.File
	stat unix.Stat_t
	// running is whether a process was found to run it: then it is no other.
	running bool
	// moved is whether it is the file, and something of it has changed since that is not its content, as far as its times tell:
	// it was renamed, or deleted.
	moved bool
}

// find opens the file of a request. The link of the process leads to the file itself, whatever is at its path by now. Where
// the process has ended its path is followed in the root directory of others, without ever leaving that or
// following a link, and without opening what is there: opening a FIFO would wait, and a device's would do something.
func find(r *Request) (*foundFile, error) {
	var last error = errReason(ReasonGone)
	for i, pid := range r.Processes {
		dir := "/proc/" + strconv.FormatUint(uint64(pid), 10)
		var fd int
		var err error
		if i == 0 {
			fd, err = unix.Open(dir+"/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
		} else {
			fd, err = openIn(dir+"/root", r.Path)
		}
		if err != nil {
			continue
		}
		file, err := verified(fd, dir, r.File, i == 0)
		_ = unix.Close(fd)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, errReason(ReasonGone)) {
			last = err
		}
	}
	return nil, last
}

// openIn finds a path in a root directory.
func openIn(root, path string) (int, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(dir) //nolint:errcheck // it was only looked at
	return unix.Openat2(dir, path, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS,
	})
}

// verified opens what a descriptor stands for, if it is the file and on a file system that answers. running is whether
// a process runs it: then the file is no other, even if something of it has changed.
func verified(fd int, process string, want File, running bool) (*foundFile, error) {
	kind, err := filesystem(fd, process)
	if err != nil {
		return nil, err
	}
	own, local := localFilesystems()[kind]
	if !local {
		return nil, errReason(ReasonFilesystem)
	}
	f := &foundFile{running: running}
	stat := &f.stat
	if err := unix.Fstat(fd, stat); err != nil {
		return nil, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Ino != want.Inode || own && deviceOf(stat) != want.Device {
		return nil, errReason(ReasonGone)
	}
	if version := versionOf(stat); version[0] != want.Changed {
		if !running || version[1] != want.Modified {
			return nil, errReason(ReasonChanged)
		}
		f.moved = true
	}
	f.File, err = os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	return f, err
}

// deviceOf is the device of a file as File has it.
func deviceOf(s *unix.Stat_t) uint32 { return unix.Major(s.Dev)<<20 | unix.Minor(s.Dev) }

// versionOf is the times of a file's last changes.
func versionOf(s *unix.Stat_t) [2]int64 { return [2]int64{s.Ctim.Nano(), s.Mtim.Nano()} }

// localFilesystems is the file systems whose files the kernel reads by itself, and whether they tell programs the device
// number that the kernel has for them. On others a read may wait for as long as a program, of the sandbox maybe, likes.
func localFilesystems() map[string]bool {
	return map[string]bool{
		"ext2": true, "ext3": true, "ext4": true, "xfs": true, "f2fs": true, "tmpfs": true, "ramfs": true, "rootfs": true,
		"squashfs": true, "erofs": true, "iso9660": true, "vfat": true, "zfs": true, "bcachefs": false, "btrfs": false, "overlay": false,
	}
}

// filesystem is the type of the file system that a descriptor is on. It is looked up by the mount, as a process has it:
// asking the file system itself could wait.
func filesystem(fd int, process string) (string, error) {
	id, err := mountOf(fd)
	if err != nil {
		return "", err
	}
	for _, of := range []string{process, "/proc/self"} {
		if kind := mounted(of+"/mountinfo", id); kind != "" {
			return kind, nil
		}
	}
	if id == memoryMount() {
		return "tmpfs", nil
	}
	return "", errReason(ReasonFilesystem)
}

// mountOf is the id of the mount that a descriptor is on.
func mountOf(fd int) (string, error) {
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(info), "mnt_id:")
	id, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	return strings.TrimSpace(id), nil
}

// memoryMount is the mount of all files that live in memory alone (memfd_create), which nobody's list of mounts has; ""
// where there are none.
func memoryMount() string {
	fd, err := unix.MemfdCreate("watchglass", unix.MFD_CLOEXEC)
	if err != nil {
		return ""
	}
	defer unix.Close(fd) //nolint:errcheck // it was only looked at
	id, err := mountOf(fd)
	if err != nil {
		return ""
	}
	return id
}

// mounted is the type of what is mounted as an id, "" for nothing.
func mounted(file, id string) string {
	mounts, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer mounts.Close() //nolint:errcheck // it is only read
	lines := bufio.NewScanner(mounts)
	for lines.Scan() {
		// "ID parent major:minor root point options [optional…] - type source options": man 5 proc_pid_mountinfo.
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || fields[0] != id {
			continue
		}
		if dash := slices.Index(fields, "-"); dash > 0 && dash+1 < len(fields) {
			return fields[dash+1]
		}
	}
	return ""
}

// sumOnce is a file's sum, read unless it is remembered. What may have changed without a trace is not.
func (d *Digester) sumOnce(ctx context.Context, file *foundFile, r *Request) (string, error) {
	if file.stat.Size > d.cfg.MaxBytes {
		return "", errReason(ReasonTooLarge)
	}
	v := version{file: r.File}
	if device := deviceOf(&file.stat); device != r.File.Device {
		v.file.Device, v.opened = device, true
	}
	if sum := d.known(v); sum != "" && !file.moved && r.settled() {
		return sum, nil
	}
	sum, err := d.sum(ctx, file)
	if err == nil && !file.moved && r.settled() {
		d.remember(v, sum)
	}
	return sum, err
}

// sum reads a file, and makes sure that it was not written to meanwhile.
func (d *Digester) sum(ctx context.Context, file *foundFile) (string, error) {
	hash := sha256.New()
	var total int64
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := io.CopyN(hash, file, chunk)
		if total += n; total > d.cfg.MaxBytes {
			return "", errReason(ReasonTooLarge)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
	}
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return "", err
	}
	before, after := versionOf(&file.stat), versionOf(&stat)
	if after[1] != before[1] || stat.Size != total || after[0] != before[0] && !file.running {
		return "", errReason(ReasonChanged)
	}
	// It was deleted or renamed meanwhile, as far as its times tell.
	file.moved = file.moved || after[0] != before[0]
	return hex.EncodeToString(hash.Sum(nil)), nil
}
