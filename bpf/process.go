// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/watchglass/watchglass/event"
)

// Magic numbers of file systems that live in memory (linux/magic.h).
const (
	tmpfsMagic     = 0x01021994
	ramfsMagic     = 0x858458f6
	hugetlbfsMagic = 0x958458f6
)

// Bits of st_mode.
const (
	modeSetUser  = 0o4000
	modeSetGroup = 0o2000
)

// maxExecRooms bounds the memory in which execs are told, to some 1.2 MiB: each takes 165 KiB, and on a machine of many
// processors hardly ever as many of them are in an exec's hook at once. One more waits for the first of them.
const maxExecRooms = 7

// prepareProcess sizes the maps and enters the variables to look for.
func prepareProcess(spec *ebpf.CollectionSpec, cfg *Config, _ *btf.Cache) error {
	if err := prepareRooms(spec, cfg.execRooms); err != nil {
		return err
	}
	if err := spec.Variables["node_namespaces"].Set(nodeNamespaces()); err != nil {
		return fmt.Errorf("setting the node's namespaces: %w", err)
	}
	spec.Maps["environments"].Contents = []ebpf.MapKV{{Key: uint32(0), Value: newEnvironment(cfg.Environment)}}
	return nil
}

// prepareRooms makes so many rooms for execs, 0 for as many as there are processors, up to maxExecRooms.
func prepareRooms(spec *ebpf.CollectionSpec, count int) error {
	if count == 0 {
		cpus, err := ebpf.PossibleCPU()
		if err != nil {
			return fmt.Errorf("counting CPUs: %w", err)
		}
		count = min(cpus, maxExecRooms)
	}
	rooms := uint32(count)
	if err := spec.Variables["rooms"].Set(rooms); err != nil {
		return fmt.Errorf("setting the number of rooms: %w", err)
	}
	spec.Maps["room_doors"].MaxEntries, spec.Maps["exec_rooms"].MaxEntries = rooms, rooms
	// Before those of the rooms: one of the iterator, one of the hook of moves (PATH_SLOT_EXEC).
	spec.Maps["path_walks"].MaxEntries = 2 + rooms
	return nil
}

// environmentHash is what the kernel side multiplies a variable's first 8 bytes with (ENVIRONMENT_HASH).
const environmentHash = 0x9e3779b97f4a7c15

// newEnvironment makes the table of variables to look for. The names were validated.
func newEnvironment(names []string) *processEnvironment {
	env := &processEnvironment{StartMask: math.MaxUint64}
	for _, name := range names {
		n := &env.Names[env.Count]
		for i, b := range []byte(name + "=") {
			n.Words[i/8] |= uint64(b) << (8 * (i % 8))
			n.Masks[i/8] |= 0xff << (8 * (i % 8))
		}
		env.StartMask &= n.Masks[0]
		env.Count++
	}
	for i := range env.Names[:env.Count] {
		start := (env.Names[i].Words[0] & env.StartMask) * environmentHash >> 48
		env.Starts[start>>3] |= 1 << (start & 7)
	}
	return env
}

// decodeProcess decodes a record of the process probe.
func decodeProcess(r *Record, kind uint16, data []byte) error {
	switch processProcessKind(kind) {
	case processProcessKindPROCESS_FORK:
		fork, _, err := view[processFork](data)
		if err != nil {
			return err
		}
		r.Payload = keep(r.memory, &r.memory.forks, Fork{Flags: fork.Flags})
		return nil
	case processProcessKindPROCESS_EXEC:
		return decodeExec(r, data)
	case processProcessKindPROCESS_EXIT:
		return decodeExit(r, data)
	case processProcessKindPROCESS_EXISTING:
		return decodeExisting(r, data)
	case processProcessKindPROCESS_MOVE:
		return decodeMove(r, data)
	default:
		return fmt.Errorf("%w: kind %d", errUnknown, kind)
	}
}

func decodeExec(r *Record, data []byte) error {
	exec, rest, err := view[processExec](data)
	if err != nil {
		return err
	}
	var parts [5][]byte
	sizes := [...]uint32{exec.ExecutableSize, exec.DirectorySize, exec.FilenameSize, exec.VariablesSize, exec.ArgumentsSize}
	for i, size := range sizes {
		if parts[i], rest, err = take(rest, size); err != nil {
			return err
		}
	}
	m := r.memory
	name, filename, directory := m.text(parts[0]), m.text(parts[2]), m.text(parts[1])
	pseudo := exec.has(processExecFlagsEXEC_PSEUDO)
	ran := keep(m, &m.execs, ran{privileges: exec.privileges(m)})
	ran.exec = event.ProcessExec{
		Args:             m.arguments.of(parts[4], splitNUL),
		ArgsCount:        int(exec.Arguments),
		Executable:       executableText(name, pseudo),
		Filename:         filename,
		WorkingDirectory: directory,
		Env:              m.environments.of(parts[3], splitEnv),
		Origin:           execOrigin(&exec, name),
		Inode:            exec.Inode,
		Device:           exec.Device,
		Changed:          time.Unix(0, int64(exec.Changed)),
		Modified:         time.Unix(0, int64(exec.Modified)),
		WritableMount:    exec.has(processExecFlagsEXEC_WRITABLE),
		SetUser:          exec.Mode&modeSetUser != 0,
		SetGroup:         exec.Mode&modeSetGroup != 0,
		SecureExec:       exec.has(processExecFlagsEXEC_SECURE),
		ProcessGroup:     exec.Group,
		TerminalSession:  exec.Session,
		TTY:              m.comms.of(beforeNUL(exec.Tty[:])),
		LoginUserID:      loginUser(exec.LoginUid),
		Privileges:       &ran.privileges,
	}
	r.Payload = &ran.exec
	return nil
}

func (e *processExec) has(flag processExecFlags) bool { return e.Flags&uint32(flag) != 0 }

// execOrigin says where an executable came from. name is its path, or its bare name when it has none.
func execOrigin(exec *processExec, name string) event.Origin {
	inMemory := exec.Filesystem == tmpfsMagic || exec.Filesystem == ramfsMagic || exec.Filesystem == hugetlbfsMagic
	pseudo := exec.has(processExecFlagsEXEC_PSEUDO)
	switch {
	case inMemory && pseudo && strings.HasPrefix(name, "memfd:"):
		return event.OriginMemfd
	case exec.Links == 0 || exec.has(processExecFlagsEXEC_DELETED):
		return event.OriginDeleted
	case inMemory:
		return event.OriginTmpfs
	case exec.has(processExecFlagsEXEC_UPPER):
		return event.OriginUpper
	case exec.has(processExecFlagsEXEC_LOWER):
		return event.OriginImage
	default:
		return event.OriginFile
	}
}

// executableText gives a file that lies in no directory the name that /proc/PID/exe shows.
func executableText(path string, pseudo bool) string {
	if pseudo && !strings.HasPrefix(path, "/") {
		return "/" + path
	}
	return path
}

// splitNUL splits strings that each end in a NUL; the last may have been cut before its own.
func splitNUL(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\x00"), "\x00")
}

func splitEnv(s string) []event.EnvVar {
	vars := splitNUL(s)
	if len(vars) == 0 {
		return nil
	}
	env := make([]event.EnvVar, 0, len(vars))
	for _, v := range vars {
		name, value, _ := strings.Cut(v, "=")
		env = append(env, event.EnvVar{Name: name, Value: value})
	}
	return env
}

func decodeExit(r *Record, data []byte) error {
	exit, _, err := view[processExit](data)
	if err != nil {
		return err
	}
	duration := exit.Header.Time - exit.Header.Start
	if exit.Header.Start > exit.Header.Time {
		duration = 0
	}
	exited := keep(r.memory, &r.memory.exits, exited{usage: exit.Usage.usage()})
	exited.exit = event.ProcessExit{
		// As the W macros of wait(2) take the status apart.
		Code:       int(exit.Status >> 8 & 0xff),
		Signal:     int(exit.Status & 0x7f),
		CoreDumped: exit.Status&0x80 != 0,
		Exited:     r.Time,
		Duration:   time.Duration(duration),
		OOMKilled:  exit.Flags&uint32(processExitFlagsEXIT_OOM) != 0,
		Usage:      &exited.usage,
	}
	r.Payload = &exited.exit
	return nil
}

// usage is the event's form of what a process used.
func (u *processUsage) usage() event.Usage {
	user, system := splitRuntime(u.Runtime, u.User, u.System)
	return event.Usage{
		User: user, System: system,
		MaxResident:  u.Resident * uint64(os.Getpagesize()),
		BytesRead:    u.Read,
		BytesWritten: u.Written,
		DiskRead:     u.DiskRead, DiskWritten: u.DiskWritten,
		MinorFaults: u.MinorFaults, MajorFaults: u.MajorFaults,
	}
}

// splitRuntime divides the exact time on a CPU as the sampled times say, as the kernel does for wait(2).
func splitRuntime(runtime, user, system uint64) (inUser, inSystem time.Duration) {
	if user+system == 0 {
		return time.Duration(runtime), 0
	}
	part := uint64(float64(runtime) * (float64(system) / (float64(user) + float64(system))))
	part = min(part, runtime)
	return time.Duration(runtime - part), time.Duration(part)
}

func decodeExisting(r *Record, data []byte) error {
	existing, rest, err := view[processExisting](data)
	if err != nil {
		return err
	}
	path, _, err := take(rest, existing.ExecutableSize)
	if err != nil {
		return err
	}
	r.Payload = &Existing{Executable: executableText(r.memory.text(path), len(path) > 0 && path[0] != '/')}
	return nil
}

func decodeMove(r *Record, data []byte) error {
	move, _, err := view[processMove](data)
	if err != nil {
		return err
	}
	path, _, err := take(move.Path[:], move.PathSize)
	if err != nil {
		return err
	}
	has := func(flag processMoveFlags) bool { return move.Flags&uint32(flag) != 0 }
	r.Payload = &event.ProcessMove{
		Direction: moveDirection(&move),
		FromID:    move.From, ToID: move.To, To: r.memory.text(path),
		Born: has(processMoveFlagsMOVE_BORN), Thread: has(processMoveFlagsMOVE_THREAD),
		Mover: event.Mover{PID: move.MoverPid, UserID: move.MoverUid, Name: r.memory.comms.of(beforeNUL(move.MoverComm[:])), Start: move.MoverStart},
	}
	return nil
}

func moveDirection(move *processMove) event.MoveDirection {
	switch {
	case move.Left == move.Joined:
		return event.MoveWithin
	case move.Joined == 0:
		return event.MoveOut
	case move.Left == 0:
		return event.MoveIn
	default:
		return event.MoveBetween
	}
}
